//! Quantized files that others made: pairs of QuantizeLinear and DequantizeLinear become quantizers on values and weights.

use std::collections::BTreeMap;

use sinter_model::{
    Attributes, Boundary, Granularity, Levels, Model, Node, QuantParams, Quantizer, Role, Weight, to_f32s, to_i64s,
};
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
                let quantizer = quantizer_of(model, node, model.weights.get(from))?;
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
                pairs += 1;
                let value = source.inputs[0].clone();
                let (theirs, ours) = (parameters(model, source)?, parameters(model, node)?);
                if !theirs.agree(&ours) {
                    let reason = format!("`{}` and `{}` differ in their scales or zero points", source.name, node.name);
                    return Err(CertifyError::Nothing(reason));
                }
                // A weight that the file rounds as it runs.
                if let Some(stored) = model.weights.get(&value) {
                    let mut weight = Weight::new(Role::Parameter, stored.effective()?.f_detach()?);
                    weight.quantize(quantizer_of(model, node, Some(stored))?)?;
                    out.weights.insert(to.clone(), weight);
                    continue;
                }
                let raw = read_raw(model, &value) || out.activations.contains_key(&value);
                if raw {
                    // Others read the value as it is, or rounded otherwise: what is rounded here is a value of its own.
                    out.activations.insert(to.clone(), quantizer);
                    kept.push(Node::new(to, "Identity", Attributes::new(), vec![value], vec![to.clone()])?);
                } else {
                    out.activations.insert(value.clone(), quantizer);
                    renamed.insert(to.clone(), value);
                }
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

/// Whether anything reads a value before it is quantized.
fn read_raw(model: &Model, value: &str) -> bool {
    let reads = |n: &Node| n.op.boundary() != Some(Boundary::Quantize) && n.inputs.iter().any(|i| i == value);
    model.graph.outputs.iter().any(|o| o.name == value) || model.graph.nodes.iter().any(reads)
}

/// What a node of either kind rounds by.
struct Parameters {
    scales: Vec<f32>,
    zeros: Vec<i64>,
    /// The type of its zero points, where it has some.
    kind: Option<Kind>,
}

impl Parameters {
    fn agree(&self, other: &Self) -> bool {
        let kinds = self.kind.zip(other.kind).is_none_or(|(a, b)| a == b);
        kinds && self.scales == other.scales && self.zeros == other.zeros
    }
}

/// The stored parameters of a node.
fn parameters(model: &Model, node: &Node) -> Result<Parameters, CertifyError> {
    let computed = |name: &str| CertifyError::Nothing(format!("`{}`: its {name} is computed, not stored", node.name));
    let named = |i: usize| node.inputs.get(i).filter(|n| !n.is_empty());
    let scale = named(1).and_then(|n| model.weights.get(n)).ok_or_else(|| computed("scale"))?.effective()?;
    let scales = to_f32s(&scale)?;
    let Some(zero) = named(2) else { return Ok(Parameters { zeros: vec![0; scales.len()], scales, kind: None }) };
    let zero = model.weights.get(zero).ok_or_else(|| computed("zero point"))?.effective()?;
    Ok(Parameters { scales, zeros: to_i64s(&zero)?, kind: Some(zero.kind()) })
}

/// The quantizer of a DequantizeLinear, of the stored tensor that goes in, if one does.
fn quantizer_of(model: &Model, node: &Node, stored: Option<&Weight>) -> Result<Quantizer, CertifyError> {
    let Parameters { scales, zeros, kind } = parameters(model, node)?;
    let integers = stored.map(|w| w.latent().kind()).filter(|k| !matches!(k, Kind::Float | Kind::Double | Kind::Half));
    let (bits, levels) = match integers.or(kind).unwrap_or(Kind::Uint8) {
        Kind::Uint8 => (8, Levels::Unsigned),
        Kind::Int8 => (8, Levels::Signed),
        Kind::Int => (32, Levels::Symmetric),
        other => return Err(CertifyError::Nothing(format!("`{}`: integers of {other:?}", node.name))),
    };
    let axis = node.attributes.get_int("axis", 1)?;
    let rank = stored.map_or(1, |w| w.size().len() as i64);
    let granularity = match scales.len() {
        1 => Granularity::Tensor,
        _ => Granularity::Channel(if axis < 0 { axis + rank } else { axis }.max(0) as usize),
    };
    Ok(Quantizer::new(&QuantParams::new(bits, levels, granularity, scales, zeros)?)?)
}
