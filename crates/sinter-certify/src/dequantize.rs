//! A quantized model as the float model that it stands for: something to compress again.

use std::collections::BTreeMap;

use sinter_model::{Attributes, Clamp, Model, Node, OutputRange, ParamsOf, Weight, to_f32s};

use crate::absorb::absorb;
use crate::error::CertifyError;

/// Weights become their integers times their scales, and nothing is rounded any more. Converters leave out a Relu where a quantizer begins at 0: it is put
/// back. What ended elsewhere (a Clip at 6, say) can't be told from what calibration saw, and is not. Errors where a file has no pairs, or one whose scale is
/// computed as it runs.
pub fn dequantize(model: &Model) -> Result<Model, CertifyError> {
    let mut out = absorb(model)?;
    for weight in out.weights.values_mut().filter(|w| w.quantizer().is_some()) {
        *weight = Weight::new(weight.role, weight.effective()?.f_detach()?.copy());
    }
    let mut begins_at_zero = Vec::new();
    for (value, quantizer) in std::mem::take(&mut out.activations) {
        if quantizer.params()?.ends().0 == 0.0 {
            begins_at_zero.push(value);
        }
    }
    let relus: BTreeMap<String, String> = begins_at_zero
        .into_iter()
        .filter(|value| out.graph.nodes.iter().any(|n| n.outputs.contains(value) && !is_positive(&out, n)))
        .map(|value| (value.clone(), out.free_name(&format!("{value}.raw"))))
        .collect();
    let mut nodes = Vec::new();
    for mut node in std::mem::take(&mut out.graph.nodes) {
        let mut behind = Vec::new();
        for output in &mut node.outputs {
            if let Some(raw) = relus.get(output) {
                let value = std::mem::replace(output, raw.clone());
                behind.push(Node::new(&format!("{value}.relu"), "Relu", Attributes::new(), vec![raw.clone()], vec![value])?);
            }
        }
        nodes.push(node);
        nodes.extend(behind);
    }
    out.graph.nodes = nodes;
    Ok(out)
}

/// Whether a node's results are never below zero by themselves, or only moved.
fn is_positive(model: &Model, node: &Node) -> bool {
    let quantization = node.op.quantization();
    let clamps = match node.op.clamp() {
        Some(Clamp::AtZero) => true,
        Some(Clamp::Between { low, .. }) => {
            let stored = node.inputs.get(low).and_then(|name| model.weights.get(name)).and_then(|w| to_f32s(w.latent()).ok());
            stored.is_some_and(|low| low.iter().all(|v| *v >= 0.0))
        }
        None => false,
    };
    clamps || quantization.params == ParamsOf::Input || quantization.range == Some(OutputRange::Unit)
}
