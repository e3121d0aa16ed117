//! Softmax, LogSoftmax and Hardmax as they were before opset 13: over all axes from one on, flattened.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Attributes, Model, Node, OpResult};

const KINDS: [&str; 3] = ["Softmax", "LogSoftmax", "Hardmax"];

/// Whether an operator is one of them.
pub(crate) fn is(kind: &str) -> bool {
    KINDS.contains(&kind)
}

/// What it means: flattened, over the second axis, and in its shape again.
pub(crate) fn restated(name: &str, kind: &str, attributes: &Attributes, x: &str, y: &str) -> OpResult<Vec<Node>> {
    let axis = attributes.get_int("axis", 1)?;
    let [shape, flat, soft] = ["shape", "flat", "soft"].map(|part| format!("{y}.{part}"));
    let node = |name: &str, kind: &str, attributes: Attributes, inputs: &[&str], output: &str| {
        Node::new(name, kind, attributes, inputs.iter().map(|s| s.to_string()).collect(), vec![output.to_string()])
    };
    Ok(vec![
        node(&shape, "Shape", Attributes::new(), &[x], &shape)?,
        node(&flat, "Flatten", Attributes::new().int("axis", axis), &[x], &flat)?,
        node(name, kind, Attributes::new().int("axis", 1), &[&flat], &soft)?,
        node(&format!("{name}.back"), "Reshape", Attributes::new(), &[&soft, &shape], y)?,
    ])
}

/// Makes one node of the four where only one axis is longer than one from there on: nearly always the last.
pub(crate) fn join(model: &mut Model, shapes: &BTreeMap<String, Vec<i64>>) {
    let consumers = model.graph.consumers();
    let producers = model.graph.producers();
    let nodes = &model.graph.nodes;
    let only = |value: &str| match consumers.get(value).map(Vec::as_slice) {
        Some(&[at]) if !model.graph.is_output(value) => Some(at),
        _ => None,
    };
    let mut joined: BTreeMap<usize, Node> = BTreeMap::new();
    let mut gone: BTreeSet<usize> = BTreeSet::new();
    for (at, flat) in nodes.iter().enumerate().filter(|(_, n)| n.kind() == "Flatten") {
        let one = || -> Option<(usize, usize, usize, Node)> {
            let soft = only(&flat.outputs[0]).filter(|&i| is(nodes[i].kind()))?;
            let back = only(&nodes[soft].outputs[0]).filter(|&i| nodes[i].kind() == "Reshape")?;
            let shape = *producers.get(nodes[back].inputs.get(1)?.as_str())?;
            let same = nodes[shape].kind() == "Shape" && nodes[shape].inputs[0] == flat.inputs[0];
            let lengths = shapes.get(&flat.inputs[0]).filter(|_| same)?;
            let rank = lengths.len() as i64;
            let axis = flat.attributes.get_int("axis", 1).ok()?;
            let axis = if axis < 0 { axis + rank } else { axis };
            let behind = usize::try_from(axis).ok().and_then(|a| lengths.get(a + 1..))?;
            if behind.iter().any(|&n| n != 1) {
                return None;
            }
            let axis = if behind.is_empty() { -1 } else { axis };
            let (inputs, outputs) = (vec![flat.inputs[0].clone()], nodes[back].outputs.clone());
            let node =
                Node::new(&nodes[soft].name, nodes[soft].kind(), Attributes::new().int("axis", axis), inputs, outputs).ok()?;
            Some((soft, back, shape, node))
        };
        if let Some((soft, back, shape, node)) = one() {
            if only(&nodes[shape].outputs[0]).is_some() {
                gone.insert(shape);
            }
            gone.extend([at, back]);
            joined.insert(soft, node);
        }
    }
    let mut at = 0..;
    for node in std::mem::take(&mut model.graph.nodes) {
        let i = at.next().unwrap_or(0);
        if !gone.contains(&i) {
            model.graph.nodes.push(joined.remove(&i).unwrap_or(node));
        }
    }
}
