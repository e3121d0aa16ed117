//! Biases as integer kernels add them.

use sinter_model::{Granularity, Half, Levels, Model, QuantParams, Quantizer, to_f32s};
use sinter_train::StageError;

use super::{Needs, Pass};
use crate::bias::stands_alone;
use crate::resolved::Resolved;
use crate::state::State;

/// Puts biases of quantized layers into 32 bits at the product of the scales of input and weight, as integer kernels add them (Jacob et al.,
/// 2018, section 2.4).
#[derive(Debug)]
pub(crate) struct IntegerBiases;

impl Pass for IntegerBiases {
    fn name(&self) -> &'static str {
        "integer-biases"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        resolved.activations.calibrated().map(|_| "in 32 bits, at input scale times weight scale".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        quantize(&mut state.model)
    }
}

/// Biases go to 32 bits at the product of the scales of input and weight, as integer kernels add them. Where another reader or a factor
/// would want another scale they stay float.
fn quantize(model: &mut Model) -> Result<(), StageError> {
    for layer in model.layers() {
        let node = &model.graph.nodes[layer.node];
        let Some(bias) = layer.bias.clone().filter(|b| stands_alone(model, &layer, b)) else { continue };
        let Some(input) = model.activations.get(&node.inputs[0]) else { continue };
        let Some(quantizer) = model.weight(&layer.weight)?.quantizer() else { continue };
        if matches!(quantizer.granularity(), Granularity::Group { .. }) {
            continue;
        }
        let input_scale = input.scales()?[0];
        let weight_scales = quantizer.scales()?;
        // Sixteen bits say more of a bias than eight-bit weights leave to tell.
        model.weight_mut(&bias)?.to_half(Half::Float16);
        let value = model.weight(&bias)?.effective().map_err(StageError::weight(&bias))?.f_detach()?;
        let n = value.numel();
        if value.dim() != 1 || (weight_scales.len() > 1 && weight_scales.len() != n) {
            continue;
        }
        let scales: Vec<f32> = (0..n).map(|i| input_scale * weight_scales[i % weight_scales.len()]).collect();
        // Beyond 24 bits float32 can't tell the integers apart (a dead channel has a tiny scale): then too it stays float.
        let exact = to_f32s(&value)?.iter().zip(&scales).all(|(b, s)| (b / s).abs() < 16_777_216.0);
        if !exact {
            continue;
        }
        let granularity = if weight_scales.len() == 1 { Granularity::Tensor } else { Granularity::Channel(0) };
        let scales = if granularity == Granularity::Tensor { scales[..1].to_vec() } else { scales };
        let zero_points = vec![0; scales.len()];
        let params = QuantParams::new(32, Levels::Symmetric, granularity, scales, zero_points);
        let quantizer = params.and_then(|p| Quantizer::new(&p)).map_err(StageError::weight(&bias))?;
        model.weight_mut(&bias)?.quantize(quantizer).map_err(StageError::weight(&bias))?;
    }
    Ok(())
}
