//! Every layer that integer kernels compute.

use sinter_model::Model;

use crate::LayerCertificate;
use crate::error::CertifyError;
use crate::integers::integers;
use crate::requantize::{Output, requantization};
use crate::sums::sums;

/// Looks at every layer that integer kernels compute.
pub(crate) fn of_layers(model: &Model, unknown: &mut Vec<String>) -> Result<Vec<LayerCertificate>, CertifyError> {
    let mut found = Vec::new();
    for layer in model.layers() {
        for (index, _) in model.uses(&layer.weight) {
            let node = &model.graph.nodes[index];
            match integers(model, &layer, node)? {
                Ok(integers) => {
                    let sums = sums(&integers);
                    let output = Output::of(model, node)?;
                    let requantization = output.map(|o| requantization(&integers, &o));
                    found.push(LayerCertificate { layer: node.name.clone(), kind: node.kind().into(), sums, requantization });
                }
                Err(why) => unknown.push(format!("layer `{}`: {why}", node.name)),
            }
        }
    }
    Ok(found)
}
