//! Taking a layer off values that are quantized by their own range.

use sinter_model::{Boundary, Layer, Model};

/// Lets a layer read float values again; whether it read integers before.
pub(crate) fn undo(model: &mut Model, layer: &Layer) -> bool {
    let producers = model.graph.producers();
    let nodes = &model.graph.nodes;
    let producer = |name: &str, what: Boundary| producers.get(name).map(|&i| &nodes[i]).filter(|n| n.op.boundary() == Some(what));
    let found = producer(&nodes[layer.node].inputs[0], Boundary::Dequantize)
        .and_then(|n| producer(&n.inputs[0], Boundary::DynamicQuantize))
        .map(|n| n.inputs[0].clone());
    match found {
        Some(source) => {
            model.graph.nodes[layer.node].inputs[0] = source;
            true
        }
        None => false,
    }
}
