//! Every layer that integer kernels compute.

use std::collections::BTreeSet;

use sinter_model::Model;

use crate::LayerCertificate;
use crate::error::CertifyError;
use crate::integers::integers;
use crate::requantize::{Output, requantization};
use crate::sums::sums;

/// Looks at every layer that integer kernels compute.
pub(crate) fn of_layers(model: &Model, unknown: &mut Vec<String>) -> Result<Vec<LayerCertificate>, CertifyError> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for layer in model.layers() {
        for (index, _) in model.uses(&layer.weight) {
            let node = &model.graph.nodes[index];
            seen.insert(index);
            match integers(model, &layer, node)? {
                Ok(integers) => {
                    let sums = sums(&integers);
                    // How a sum that wraps is rounded is no question.
                    let output = if sums.fits() { Output::of(model, node)? } else { None };
                    let requantization = output.map(|o| requantization(&integers, &o));
                    found.push(LayerCertificate { layer: node.name.clone(), kind: node.kind().into(), sums, requantization });
                }
                Err(why) => unknown.push(format!("layer `{}`: {why}", node.name)),
            }
        }
    }
    for (index, node) in model.graph.nodes.iter().enumerate() {
        if node.op.is_product() && !seen.contains(&index) {
            unknown.push(format!("the sums of {} `{}`: both of its factors are computed", node.kind(), node.name));
        }
    }
    Ok(found)
}
