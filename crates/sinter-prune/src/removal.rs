//! Taking channels out of a graph.

use std::collections::{BTreeMap, BTreeSet};

use sinter_exec::{io_shapes, shapes};
use sinter_model::{IoShapes, Model, Node, Role, to_i64s};
use sinter_train::StageError;
use tch::Tensor;

use crate::channels::{Channel, Unit};

/// Takes channels out of the graph: every weight that they touch shrinks, and operators that state lengths (groups, shapes, split sizes)
/// are rewritten. Errors when what comes out does not have the shapes that were foreseen.
pub fn remove_channels(model: &mut Model, channels: &[&Channel]) -> Result<(), StageError> {
    let mut gone: BTreeMap<(String, usize), BTreeSet<usize>> = BTreeMap::new();
    for Unit { name, axis, index } in channels.iter().flat_map(|c| &c.units) {
        gone.entry((name.clone(), *axis)).or_default().insert(*index);
    }
    if gone.is_empty() {
        return Ok(());
    }
    let old = io_shapes(model)?;
    let shrink = |name: &String, shape: &[i64]| -> Vec<i64> {
        let each = shape.iter().enumerate();
        each.map(|(axis, n)| n - gone.get(&(name.clone(), axis)).map_or(0, |g| g.len() as i64)).collect()
    };
    let expected: BTreeMap<String, Vec<i64>> = shapes(model)?.iter().map(|(n, s)| (n.clone(), shrink(n, s))).collect();
    for (i, before) in old.iter().enumerate() {
        let node = model.graph.nodes[i].clone();
        let after = IoShapes {
            inputs: node.inputs.iter().zip(&before.inputs).map(|(n, s)| s.as_ref().map(|s| shrink(n, s))).collect(),
            outputs: node.outputs.iter().zip(&before.outputs).map(|(n, s)| shrink(n, s)).collect(),
        };
        if after.inputs == before.inputs && after.outputs == before.outputs {
            continue;
        }
        let adapted = node.op.adapt(&node.attributes, before, &after);
        let mut inputs = node.inputs.clone();
        for (slot, mut values) in adapted.constants {
            // What was left open (-1, 0) stays open: shapes here are those of one sample.
            let old = inputs.get(slot).and_then(|n| model.weights.get(n)).map(|w| to_i64s(w.latent())).transpose()?;
            if let Some(old) = old.filter(|old| old.len() == values.len()) {
                values.iter_mut().zip(old).filter(|(_, o)| *o <= 0).for_each(|(v, o)| *v = o);
            }
            let name = model.add_constant(&format!("{}.input{slot}", node.name), Tensor::from_slice(&values));
            if inputs.len() <= slot {
                inputs.resize(slot + 1, String::new());
            }
            inputs[slot] = name;
        }
        let attributes = adapted.attributes.unwrap_or(node.attributes);
        model.graph.nodes[i] = Node::new(&node.name, node.op.kind(), attributes, inputs, node.outputs)?;
    }
    for ((name, axis), removed) in &gone {
        let Some(weight) = model.weights.get_mut(name) else { continue };
        let keep: Vec<i64> = (0..weight.size()[*axis]).filter(|i| !removed.contains(&(*i as usize))).collect();
        weight.select(*axis as i64, &Tensor::from_slice(&keep)).map_err(StageError::weight(name))?;
    }
    model.drop_unused();
    for (name, shape) in shapes(model)? {
        // Constants that were rewritten have names of their own.
        let stored = model.weights.get(&name).is_some_and(|w| w.role == Role::Constant);
        if let Some(wanted) = expected.get(&name).filter(|w| **w != shape && !stored) {
            return Err(StageError::config(
                "structured",
                format!("after removing channels `{name}` has shape {shape:?}, expected {wanted:?}; please report this model"),
            ));
        }
    }
    Ok(())
}
