//! Which biases belong to one layer alone.

use sinter_model::{Layer, Model};

/// Whether the bias is added as it is, and by this layer only.
pub(crate) fn stands_alone(model: &Model, layer: &Layer, bias: &str) -> bool {
    let readers = model.graph.consumers();
    let once = |name: &str| readers.get(name).is_some_and(|r| r.len() == 1);
    let attributes = &model.graph.nodes[layer.node].attributes;
    let factors = ["alpha", "beta"].iter().all(|f| matches!(attributes.get_float(f, 1.0), Ok(v) if v == 1.0));
    factors && once(&layer.weight) && once(bias)
}
