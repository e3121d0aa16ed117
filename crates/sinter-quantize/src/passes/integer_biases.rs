//! Biases as integer kernels add them.

use sinter_model::{Granularity, Half, Layer, Levels, Model, OpResult, QuantParams, Quantizer, to_f32s};
use sinter_train::StageError;

use super::Pass;
use crate::bias::stands_alone;
use crate::pairs::saturating;
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

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        resolved.activations.calibrated().map(|_| "in 32 bits, at input scale times weight scale".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        for layer in state.model.layers() {
            let grown = make_room(&mut state.model, &layer).map_err(StageError::weight(&layer.weight))?;
            if grown > 0 {
                state.context.note(format!(
                    "layer `{}`: {grown} scales of its weight are larger than its values ask for, so that biases fit 32 bits",
                    layer.name
                ));
            }
        }
        quantize(&mut state.model)?;
        tell_of_pairs(state)
    }
}

/// Says which layers are right only where the instruction is there that the target's kernels are assumed to have.
fn tell_of_pairs(state: &State) -> Result<(), StageError> {
    let Some((kernels, instruction)) = state.resolved.kernels.as_ref().and_then(|k| Some((k, k.assumes?))) else { return Ok(()) };
    let found = saturating(&state.model)?;
    if let Some((layer, reach)) = found.worst {
        let here = if instruction.is_here() { "has it" } else { "lacks it" };
        state.context.note(format!(
            "kernels of `{}` are assumed to have VNNI; this machine {here}. Without it sums of two products saturate at 32767, which {} of {} layers \
             can reach (`{layer}`: {reach}): the target `onnxruntime-x86-avx2` keeps weights to seven bits",
            kernels.target, found.count, found.of
        ));
    }
    Ok(())
}

/// The most steps of its scale that a bias may take: as much again is left for the products that join it.
const MOST_STEPS: f64 = (1 << 30) as f64;

/// Steps that a bias takes beside weights that are all zero, whose scale may be anything.
const FINE_STEPS: f64 = (1 << 20) as f64;

/// Enlarges the scales of a weight that is next to nothing beside its bias until the bias fits 32 bits; returns how many. The coarser steps
/// of the weight cost nothing that the output could show: a whole row of them is some 10^-5 steps of an output that holds the bias. Where all
/// weights of a scale are zero the bias alone is left to tell, and gets a scale that tells it.
fn make_room(model: &mut Model, layer: &Layer) -> OpResult<usize> {
    let Some(bias) = &layer.bias else { return Ok(0) };
    let Some(input) = model.integers_read(&model.graph.nodes[layer.node]) else { return Ok(0) };
    let input = f64::from(input.scales()?[0]);
    let (Some(weight), Some(bias)) = (model.weights.get(&layer.weight), model.weights.get(bias)) else { return Ok(0) };
    let Some(quantizer) = weight.quantizer() else { return Ok(0) };
    let params = quantizer.params()?;
    if matches!(params.granularity(), Granularity::Group { .. }) {
        return Ok(0);
    }
    let biases = to_f32s(&bias.effective()?.f_detach()?)?;
    let largest = |i: usize| match params.scales().len() {
        1 => biases.iter().fold(0f32, |most, b| most.max(b.abs())),
        _ => biases.get(i % biases.len().max(1)).map_or(0.0, |b| b.abs()),
    };
    let value = weight.effective()?.f_detach()?;
    let rows = match params.granularity() {
        Granularity::Channel(axis) => value.f_movedim_int(axis as i64, 0)?.f_reshape([value.size()[axis], -1])?,
        _ => value.f_reshape([1, -1])?,
    };
    let tops = to_f32s(&rows.f_abs()?.f_amax(1, false)?)?;
    let latent = weight.latent().f_abs()?.f_max()?.f_double_value(&[])?;
    let wanted = |(i, scale): (usize, &f32)| {
        let least = f64::from(largest(i)) / (input * MOST_STEPS);
        if f64::from(*scale) < least {
            return QuantParams::storable(least as f32);
        }
        let fine = f64::from(largest(i)) / (input * FINE_STEPS);
        match tops.get(i) {
            // What rounded to zero must not begin to clip.
            Some(0.0) if fine > 0.0 && fine < f64::from(*scale) => {
                QuantParams::storable(fine.max(latent / 127.0).max(1e-37) as f32).min(*scale)
            }
            _ => *scale,
        }
    };
    let scales: Vec<f32> = params.scales().iter().enumerate().map(wanted).collect();
    let grown = scales.iter().zip(params.scales()).filter(|(new, old)| new > old).count();
    if scales != params.scales() {
        let zeros = params.zero_points().to_vec();
        let params = QuantParams::new(params.bits(), params.levels(), params.granularity(), scales, zeros)?;
        let Some(weight) = model.weights.get_mut(&layer.weight) else { return Ok(0) };
        weight.quantize(Quantizer::new(&params)?)?;
    }
    Ok(grown)
}

/// Biases go to 32 bits at the product of the scales of input and weight, as integer kernels add them. Where another reader or a factor
/// would want another scale they stay float.
fn quantize(model: &mut Model) -> Result<(), StageError> {
    for layer in model.layers() {
        let node = &model.graph.nodes[layer.node];
        let Some(bias) = layer.bias.clone().filter(|b| stands_alone(model, &layer, b)) else { continue };
        let Some(input) = model.integers_read(node) else { continue };
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
