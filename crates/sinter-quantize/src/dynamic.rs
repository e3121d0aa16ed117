//! Activations quantized by the range of what is there: no calibration, a little more work at every inference.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Attributes, Layer, Model, Node};
use sinter_train::StageError;

use crate::config::QuantizeConfig;
use crate::read_through::read_through;

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
        let name = |&i: &usize| (i, model.free_name(&format!("{}{SUFFIX}", model.graph.nodes[i].inputs[0])));
        let names: BTreeMap<usize, String> = nodes.iter().map(name).collect();
        read_through(model, &names, |value, real| {
            let [q, scale, zero] = ["integers", "scale", "zero_point"].map(|part| format!("{real}.{part}"));
            let outputs = vec![q.clone(), scale.clone(), zero.clone()];
            let quantize = Node::new(&q, "DynamicQuantizeLinear", Attributes::new(), vec![value.into()], outputs)?;
            let dequantize = Node::new(real, "DequantizeLinear", Attributes::new(), vec![q, scale, zero], vec![real.into()])?;
            Ok(vec![quantize, dequantize])
        })?;
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
