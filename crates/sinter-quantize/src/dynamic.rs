//! Activations quantized by the range of what is there: no calibration, a little more work at every inference.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Attributes, Layer, Model, Node};
use sinter_train::StageError;

use crate::config::QuantizeConfig;

/// What the integers read: a value's pair of DynamicQuantizeLinear and DequantizeLinear.
const SUFFIX: &str = ".dynamic";

impl QuantizeConfig {
    /// Puts a pair of DynamicQuantizeLinear and DequantizeLinear before every layer of the configuration that runtimes can compute in
    /// integers then: convolutions and matrix products. Recurrent layers read on in float. Returns how many layers read integers.
    pub(crate) fn make_dynamic(&self, model: &mut Model) -> Result<usize, StageError> {
        let reads = |l: &Layer| {
            let node = &model.graph.nodes[l.node];
            let gridded = model.weights[&l.weight].grid().is_some();
            gridded && matches!(node.kind(), "Conv" | "Gemm" | "MatMul") && self.input_is_dynamic(model, l)
        };
        let nodes: BTreeSet<usize> = model.layers().iter().filter(|l| reads(l)).map(|l| l.node).collect();
        let mut taken: BTreeSet<String> = model.graph.nodes.iter().flat_map(|n| n.outputs.iter().cloned()).collect();
        taken.extend(model.weights.keys().cloned());
        let mut pairs: BTreeMap<String, String> = BTreeMap::new();
        let mut all = Vec::with_capacity(model.graph.nodes.len() + 2 * nodes.len());
        for (i, mut node) in std::mem::take(&mut model.graph.nodes).into_iter().enumerate() {
            if nodes.contains(&i) {
                let value = node.inputs[0].clone();
                if !pairs.contains_key(&value) {
                    let mut real = format!("{value}{SUFFIX}");
                    while !taken.insert(real.clone()) {
                        real.push('_');
                    }
                    let [q, scale, zero] = ["integers", "scale", "zero_point"].map(|part| format!("{real}.{part}"));
                    let quantize = Node::new(
                        &q,
                        "DynamicQuantizeLinear",
                        Attributes::new(),
                        vec![value.clone()],
                        vec![q.clone(), scale.clone(), zero.clone()],
                    )?;
                    let dequantize =
                        Node::new(&real, "DequantizeLinear", Attributes::new(), vec![q, scale, zero], vec![real.clone()])?;
                    all.extend([quantize, dequantize]);
                    pairs.insert(value.clone(), real);
                }
                node.inputs[0] = pairs[&value].clone();
            }
            all.push(node);
        }
        model.graph.nodes = all;
        Ok(nodes.len())
    }
}

/// Lets a layer read float values again; whether it read integers before.
pub(crate) fn undo(model: &mut Model, layer: &Layer) -> bool {
    let producers = model.graph.producers();
    let nodes = &model.graph.nodes;
    let producer = |name: &str, kind: &str| producers.get(name).map(|&i| &nodes[i]).filter(|n| n.kind() == kind);
    let found = producer(&nodes[layer.node].inputs[0], "DequantizeLinear")
        .and_then(|n| producer(&n.inputs[0], "DynamicQuantizeLinear"))
        .map(|n| n.inputs[0].clone());
    match found {
        Some(source) => {
            model.graph.nodes[layer.node].inputs[0] = source;
            true
        }
        None => false,
    }
}
