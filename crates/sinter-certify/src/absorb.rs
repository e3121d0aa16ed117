//! Quantized files that others made: pairs of QuantizeLinear and DequantizeLinear become quantizers on values and weights.

use std::collections::BTreeMap;

use sinter_model::{Boundary, Granularity, Levels, Model, Node, QuantParams, Quantizer, Role, Weight, to_f32s, to_i64s};
use tch::Kind;

use crate::error::CertifyError;

/// The model with its pairs absorbed. Errors where a file has none, or one whose scale is computed.
pub fn absorb(model: &Model) -> Result<Model, CertifyError> {
    let mut out = model.copy();
    let producers = model.graph.producers();
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    let mut kept: Vec<Node> = Vec::new();
    let mut pairs = 0;
    for node in &model.graph.nodes {
        match node.op.boundary() {
            Some(Boundary::Dequantize) => {
                let (from, to) = (&node.inputs[0], &node.outputs[0]);
                let quantizer = quantizer(model, node)?;
                if let Some(stored) = model.weights.get(from) {
                    let integers = stored.effective()?;
                    let value = quantizer.dequantize(&integers.f_to_kind(Kind::Int64)?)?;
                    let mut weight = Weight::new(Role::Parameter, value);
                    weight.quantize(quantizer)?;
                    out.weights.insert(to.clone(), weight);
                    pairs += 1;
                    continue;
                }
                let source = producers.get(from.as_str()).map(|&i| &model.graph.nodes[i]);
                let Some(source) = source.filter(|n| n.op.boundary() == Some(Boundary::Quantize)) else {
                    let reason = format!(
                        "`{from}` is dequantized, and nothing that quantizes gives it: files of QLinear operators can't be certified yet"
                    );
                    return Err(CertifyError::Nothing(reason));
                };
                let value = source.inputs[0].clone();
                out.activations.insert(value.clone(), quantizer);
                renamed.insert(to.clone(), value);
                pairs += 1;
            }
            Some(Boundary::Quantize) => {}
            Some(Boundary::DynamicQuantize) => {
                let reason = format!("`{}` quantizes by the range of what is there: nothing holds for every input", node.name);
                return Err(CertifyError::Nothing(reason));
            }
            None => kept.push(node.clone()),
        }
    }
    if pairs == 0 {
        return Err(CertifyError::Nothing("the model is not quantized: it has no QuantizeLinear and DequantizeLinear".into()));
    }
    for input in kept.iter_mut().flat_map(|n| &mut n.inputs) {
        while let Some(value) = renamed.get(input) {
            input.clone_from(value);
        }
    }
    for output in &mut out.graph.outputs {
        while let Some(value) = renamed.get(&output.name) {
            output.name.clone_from(value);
        }
    }
    out.graph.nodes = kept;
    out.drop_unused();
    Ok(out)
}

/// The parameters of a DequantizeLinear.
fn quantizer(model: &Model, node: &Node) -> Result<Quantizer, CertifyError> {
    let computed = |name: &str| CertifyError::Nothing(format!("`{}`: its {name} is computed, not stored", node.name));
    let stored = |i: usize| node.inputs.get(i).filter(|n| !n.is_empty()).and_then(|n| model.weights.get(n));
    let scale = stored(1).ok_or_else(|| computed("scale"))?.effective()?;
    let zero = stored(2).map(|w| w.effective()).transpose()?;
    let kind = zero.as_ref().map_or(Kind::Uint8, tch::Tensor::kind);
    let integers = model.weights.get(&node.inputs[0]).map(|w| w.latent().kind()).unwrap_or(kind);
    let (bits, levels) = match integers {
        Kind::Uint8 => (8, Levels::Unsigned),
        Kind::Int8 => (8, Levels::Signed),
        Kind::Int => (32, Levels::Symmetric),
        other => return Err(CertifyError::Nothing(format!("`{}`: integers of {other:?}", node.name))),
    };
    let (scales, zeros) = (to_f32s(&scale)?, zero.as_ref().map(to_i64s).transpose()?);
    let zeros = zeros.unwrap_or_else(|| vec![0; scales.len()]);
    let axis = node.attributes.get_int("axis", 1)?;
    let rank = model.weights.get(&node.inputs[0]).map_or(1, |w| w.size().len() as i64);
    let granularity = match scales.len() {
        1 => Granularity::Tensor,
        _ => Granularity::Channel(if axis < 0 { axis + rank } else { axis }.max(0) as usize),
    };
    Ok(Quantizer::new(&QuantParams::new(bits, levels, granularity, scales, zeros)?)?)
}
