//! What integer kernels could compute and should not.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Model, Node};

/// By the first result: arithmetic whose operands come from an operator of floats with any range (a reciprocal, a square root), and arithmetic that only
/// operators of floats read, each through whatever moves the value. Normalisations and activations that an exporter wrote out are made of such, and eight
/// bits of a variance or of a cube are worth nothing. Products are computed in integers all the same.
pub(crate) fn better_in_float(model: &Model, runs: &dyn Fn(&Node) -> bool, moves: &dyn Fn(&Node) -> bool) -> BTreeSet<String> {
    let graph = Around::of(model, moves);
    let nodes = &model.graph.nodes;
    let arithmetic = |node: &Node| {
        let product = node.op.is_product();
        runs(node) && !moves(node) && !product && !node.op.quantization().fuses
    };
    let candidates: Vec<usize> = (0..nodes.len()).filter(|&i| arithmetic(&nodes[i])).collect();
    let mut float: BTreeSet<usize> = (0..nodes.len()).filter(|&i| !runs(&nodes[i])).collect();
    loop {
        let before = float.len();
        for &i in &candidates {
            let any =
                |at: usize| float.contains(&at) && nodes[at].op.gives_reals() && nodes[at].op.quantization().range.is_none();
            if nodes[i].present_inputs().filter_map(|name| graph.writer(name)).any(any) {
                float.insert(i);
            }
        }
        for &i in candidates.iter().rev() {
            let readers = graph.readers(&nodes[i].outputs[0]);
            if !readers.is_empty() && readers.iter().all(|reader| float.contains(reader)) {
                float.insert(i);
            }
        }
        if float.len() == before {
            return candidates.into_iter().filter(|i| float.contains(i)).map(|i| nodes[i].outputs[0].clone()).collect();
        }
    }
}

/// Who writes and reads values, looking through nodes that only move them.
struct Around<'a> {
    nodes: &'a [Node],
    moves: Vec<bool>,
    producers: BTreeMap<&'a str, usize>,
    consumers: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Around<'a> {
    fn of(model: &'a Model, moves: &dyn Fn(&Node) -> bool) -> Self {
        let nodes = &model.graph.nodes;
        let producers = model.graph.producers().into_iter().collect();
        Self { nodes, moves: nodes.iter().map(moves).collect(), producers, consumers: model.graph.consumers() }
    }

    fn writer(&self, name: &str) -> Option<usize> {
        let mut at = *self.producers.get(name)?;
        while self.moves[at] {
            at = *self.producers.get(self.nodes[at].inputs[0].as_str())?;
        }
        Some(at)
    }

    fn readers(&self, name: &str) -> Vec<usize> {
        let (mut open, mut found) = (vec![name], Vec::new());
        while let Some(value) = open.pop() {
            for &reader in self.consumers.get(value).into_iter().flatten() {
                match self.moves[reader] {
                    true => open.extend(self.nodes[reader].outputs.iter().map(String::as_str)),
                    false => found.push(reader),
                }
            }
        }
        found
    }
}
