//! Which channels must be removed together.
//!
//! Every index of every axis of every value and weight is a unit. The operators' axes mappings say which units are the same thing seen
//! at two places; joined over the graph, the connected sets are the channels. A channel that touches a fixed axis (the graph's inputs
//! and outputs, a kernel's height) can't be removed. Residual additions, depthwise convolutions, concatenations and flattened features
//! come out right with no rule of their own.

use std::collections::{BTreeMap, BTreeSet};

use sinter_exec::{ExecError, io_shapes, shapes};
use sinter_model::{Axis, AxisLinks, Model, Node, Relation, Slot};

/// One index of one axis of a value or weight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// The value or weight.
    pub name: String,
    /// Of it.
    pub axis: usize,
    /// Along the axis.
    pub index: usize,
}

/// Units that stand or fall together.
#[derive(Debug, Clone)]
pub struct Channel {
    /// What goes together.
    pub units: Vec<Unit>,
}

/// Channels that lie on the same axes, and so compete with each other: the output channels of a layer, or of all layers that a
/// residual connection ties together.
#[derive(Debug, Clone)]
pub struct Group {
    /// The layers whose output channels these are, in graph order.
    pub layers: Vec<String>,
    /// All of them.
    pub channels: Vec<Channel>,
}

/// The first layer that produces a group's channels, and the axes that they lie on.
type GroupKey = (usize, Vec<(String, usize)>);

struct Units {
    /// First unit of each axis, by name.
    base: BTreeMap<String, Vec<usize>>,
    shape: BTreeMap<String, Vec<i64>>,
    parent: Vec<usize>,
    fixed: Vec<bool>,
}

impl Units {
    fn new(shape: BTreeMap<String, Vec<i64>>) -> Self {
        let mut count = 0;
        let mut base = BTreeMap::new();
        for (name, dims) in &shape {
            let starts = dims.iter().map(|&n| {
                count += n.max(0) as usize;
                count - n.max(0) as usize
            });
            base.insert(name.clone(), starts.collect());
        }
        Self { base, shape, parent: (0..count).collect(), fixed: vec![false; count] }
    }

    fn find(&mut self, mut unit: usize) -> usize {
        while self.parent[unit] != unit {
            self.parent[unit] = self.parent[self.parent[unit]];
            unit = self.parent[unit];
        }
        unit
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        let (low, high) = (a.min(b), a.max(b));
        self.parent[high] = low;
        self.fixed[low] = self.fixed[low] || self.fixed[high];
    }

    /// The first unit and the length of a node's axis; `None` for an absent input.
    fn locate(&self, node: &Node, at: Axis) -> Option<(usize, usize)> {
        let name = match at.slot {
            Slot::In(i) => node.inputs.get(i)?,
            Slot::Out(i) => node.outputs.get(i)?,
        };
        Some((*self.base.get(name)?.get(at.axis)?, *self.shape.get(name)?.get(at.axis)? as usize))
    }

    fn relate(&mut self, node: &Node, relation: Relation) {
        match relation {
            Relation::Fixed(a) => {
                if let Some((start, len)) = self.locate(node, a) {
                    self.fix(start, len);
                }
            }
            Relation::Same(a, b) => {
                if let (Some((a, n)), Some((b, m))) = (self.locate(node, a), self.locate(node, b)) {
                    (0..n.min(m)).for_each(|i| self.join(a + i, b + i));
                }
            }
            Relation::Block { coarse, fine } => {
                if let (Some((c, n)), Some((f, m))) = (self.locate(node, coarse), self.locate(node, fine)) {
                    let block = (m / n.max(1)).max(1);
                    (0..m).for_each(|i| self.join(c + (i / block).min(n - 1), f + i));
                }
            }
            Relation::Parts { one, other, count } => {
                if let (Some((a, n)), Some((b, m))) = (self.locate(node, one), self.locate(node, other)) {
                    let (each, others) = ((n / count.max(1)).max(1), (m / count.max(1)).max(1));
                    (0..n).for_each(|i| self.join(a + i, b + (i / each * others).min(m.saturating_sub(1))));
                    (0..m).for_each(|i| self.join(b + i, a + (i / others * each).min(n.saturating_sub(1))));
                }
            }
            Relation::Offset { part, whole, start } => {
                if let (Some((p, n)), Some((w, _))) = (self.locate(node, part), self.locate(node, whole)) {
                    (0..n).for_each(|i| self.join(p + i, w + start + i));
                }
            }
        }
    }

    fn fix(&mut self, start: usize, len: usize) {
        for unit in start..start + len {
            let root = self.find(unit);
            self.fixed[root] = true;
        }
    }
}

/// Every group of removable channels of a model, in graph order.
pub fn groups(model: &Model) -> Result<Vec<Group>, ExecError> {
    let mut units = Units::new(shapes(model)?);
    for (node, io) in model.graph.nodes.iter().zip(io_shapes(model)?) {
        let mut links = AxisLinks::new(&io);
        node.op.axes(&mut links);
        for relation in links.into_relations() {
            units.relate(node, relation);
        }
    }
    for info in model.graph.inputs.iter().chain(&model.graph.outputs) {
        let dims = units.shape.get(&info.name).cloned().unwrap_or_default();
        let starts = units.base.get(&info.name).cloned().unwrap_or_default();
        starts.iter().zip(dims).for_each(|(&start, n)| units.fix(start, n as usize));
    }
    let mut channels: BTreeMap<usize, Vec<Unit>> = BTreeMap::new();
    let places: Vec<(String, Vec<i64>, Vec<usize>)> =
        units.shape.iter().map(|(n, s)| (n.clone(), s.clone(), units.base[n].clone())).collect();
    for (name, dims, starts) in &places {
        for (axis, (&n, &start)) in dims.iter().zip(starts).enumerate() {
            for index in 0..n as usize {
                let root = units.find(start + index);
                if !units.fixed[root] {
                    channels.entry(root).or_default().push(Unit { name: name.clone(), axis, index });
                }
            }
        }
    }
    // Only channels that some layer produces can be scored; they group by the axes that they lie on.
    let layers = model.layers();
    let produced: BTreeMap<(&str, usize), usize> =
        layers.iter().enumerate().map(|(i, l)| ((l.weight.as_str(), l.slot.out_axis), i)).collect();
    let mut grouped: BTreeMap<GroupKey, Vec<Channel>> = BTreeMap::new();
    for units in channels.into_values() {
        let first = units.iter().filter_map(|u| produced.get(&(u.name.as_str(), u.axis))).min();
        if let Some(&first) = first {
            let axes: BTreeSet<(String, usize)> = units.iter().map(|u| (u.name.clone(), u.axis)).collect();
            grouped.entry((first, axes.into_iter().collect())).or_default().push(Channel { units });
        }
    }
    let named = |axes: &[(String, usize)]| {
        let mut found: Vec<usize> = axes.iter().filter_map(|(n, a)| produced.get(&(n.as_str(), *a)).copied()).collect();
        found.sort_unstable();
        found.into_iter().map(|i| layers[i].name.clone()).collect()
    };
    Ok(grouped.into_iter().map(|((_, axes), channels)| Group { layers: named(&axes), channels }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::{Attributes, Dim, ElementType, Graph, Role, ValueInfo, Weight, seeded};
    use tch::Tensor;

    /// Self-attention of two heads of four features over three tokens of eight.
    fn attention() -> Model {
        let mut model = Model::default();
        let info = |name: &str| {
            let shape = vec![Dim::Free("batch".into()), Dim::Fixed(3), Dim::Fixed(8)];
            ValueInfo { name: name.into(), element: ElementType::Float, shape }
        };
        model.graph = Graph { inputs: vec![info("x")], outputs: vec![info("y")], ..Graph::default() };
        let mut node = |name: &str, kind: &str, attributes: Attributes, inputs: &[&str]| {
            let inputs = inputs.iter().map(|i| i.to_string()).collect();
            model.graph.nodes.push(Node::new(name, kind, attributes, inputs, vec![name.into()]).unwrap());
        };
        for part in ["q", "k", "v"] {
            node(&format!("{part}.all"), "MatMul", Attributes::new(), &["x", &format!("{part}.weight")]);
            node(&format!("{part}.split"), "Reshape", Attributes::new(), &[&format!("{part}.all"), "heads"]);
            let perm: &[i64] = if part == "k" { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] };
            node(part, "Transpose", Attributes::new().ints("perm", perm), &[&format!("{part}.split")]);
        }
        node("scores", "MatMul", Attributes::new(), &["q", "k"]);
        node("chances", "Softmax", Attributes::new().int("axis", -1), &["scores"]);
        node("mixed", "MatMul", Attributes::new(), &["chances", "v"]);
        node("back", "Transpose", Attributes::new().ints("perm", &[0, 2, 1, 3]), &["mixed"]);
        node("joined", "Reshape", Attributes::new(), &["back", "features"]);
        node("y", "MatMul", Attributes::new(), &["joined", "o.weight"]);
        for (seed, part) in ["q", "k", "v", "o"].into_iter().enumerate() {
            let value = seeded(seed as u64, |random| random.normal(&[8, 8])).unwrap();
            model.weights.insert(format!("{part}.weight"), Weight::new(Role::Parameter, value));
        }
        for (name, shape) in [("heads", vec![0i64, 0, 2, 4]), ("features", vec![0, 0, 8])] {
            model.weights.insert(name.into(), Weight::new(Role::Constant, Tensor::from_slice(&shape)));
        }
        model
    }

    #[test]
    fn attention_loses_whole_heads() {
        let mut model = attention();
        let found = groups(&model).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].layers, ["q.all", "k.all", "v.all"]);
        assert_eq!(found[0].channels.len(), 2);
        for head in &found[0].channels {
            let of = |weight: &str| head.units.iter().filter(|u| u.name == weight).count();
            assert_eq!([of("q.weight"), of("k.weight"), of("v.weight"), of("o.weight")], [4; 4]);
        }
        // Without the first head, the output is what the second gives alone.
        let x = seeded(9, |random| random.normal(&[2, 3, 8])).unwrap();
        let run = |m: &Model| {
            sinter_exec::Runner::new(m).unwrap().run(&[x.shallow_clone()], sinter_model::Mode::Predict).unwrap().remove(0)
        };
        let mut alone = model.copy();
        let output = alone.weights["o.weight"].latent().copy();
        let _ = output.narrow(0, 0, 4).zero_();
        alone.weight_mut("o.weight").unwrap().set_latent(output).unwrap();
        crate::remove_channels(&mut model, &[&found[0].channels[0]]).unwrap();
        assert_eq!(model.weights["q.weight"].size(), [8, 4]);
        assert!((run(&model) - run(&alone)).abs().max().double_value(&[]) < 1e-5);
    }
}
