//! SmoothQuant and AWQ: factors that a search finds, kept where they lessen the error on calibration samples.

use std::collections::{BTreeMap, BTreeSet};

use sinter_calibrate::{ColumnStatistics, Wanted};
use sinter_model::{Levels, OpResult, QuantParams, Quantizer};
use sinter_train::StageError;
use tch::{Kind, Tensor};

use super::{Needs, Pass};
use crate::bridges::{Bridge, Reader, along, apply, bridges, largest};
use crate::config::Scaling;
use crate::formats::{Activations, Format};
use crate::resolved::Resolved;
use crate::rounding::Rounding;
use crate::state::State;
use crate::weights::weight_params;

/// Exponents that are tried between leaving channels alone and evening them out whole.
const EXPONENTS: usize = 10;
/// A channel of so small a share of the largest is dead.
const DEAD: f64 = 1e-4;

/// Outliers of activations move into weights (SmoothQuant; Xiao et al., 2023), or weights that large activations multiply are enlarged (AWQ; Lin
/// et al., 2024): whichever lessens the error of the layers that read a value. Costs a pass over the samples and ten roundings a layer.
#[derive(Debug)]
pub(crate) struct Smooth;

impl Pass for Smooth {
    fn name(&self) -> &'static str {
        "smooth"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::SecondMoments]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let float = resolved.activations == Activations::None;
        let few = resolved.layers.values().any(|l| l.weight.is_some_and(few_bits));
        let what = match &resolved.config.scaling {
            None if float && few => "AWQ where it lessens the error",
            None if !float => "SmoothQuant behind normalisations, where it lessens the error",
            Some(all) if all.contains(&Scaling::Smooth) && !float => "SmoothQuant where it lessens the error",
            Some(all) if all.contains(&Scaling::Awq) => "AWQ where it lessens the error",
            _ => return None,
        };
        Some(what.to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        if state.samples.is_empty() {
            return Ok(());
        }
        let all = bridges(&state.model);
        let config = &state.resolved.config;
        let asked = |scaling: Scaling| config.scaling.as_ref().map(|all| all.contains(&scaling));
        let float = state.resolved.activations == Activations::None;
        let low = |b: &Bridge| state.widest(b).is_some_and(few_bits);
        let nearest = |b: &Bridge| b.readers.iter().all(|r| matches!(state.rounding(&r.layer), Rounding::Nearest(_)));
        let method = |b: &Bridge| match (asked(Scaling::Smooth), asked(Scaling::Awq)) {
            (None, None) if float && low(b) && nearest(b) => Some(Scaling::Awq),
            (None, None) if !float && b.normalised => Some(Scaling::Smooth),
            (Some(true), _) if !float => Some(Scaling::Smooth),
            (_, Some(true)) => Some(Scaling::Awq),
            _ => None,
        };
        let chosen: Vec<(&Bridge, Scaling)> = all.iter().filter_map(|b| Some((b, method(b)?))).collect();
        search(state, &chosen)
    }
}

fn few_bits(format: Format) -> bool {
    (2..8).contains(&format.bits())
}

/// Tries exponents for each bridge and keeps the factors that change the readers' outputs least, if they are better than none.
fn search(state: &mut State, chosen: &[(&Bridge, Scaling)]) -> Result<(), StageError> {
    let weights: BTreeSet<String> = chosen.iter().flat_map(|(b, _)| b.readers.iter().map(|r| r.layer.weight.clone())).collect();
    if weights.is_empty() {
        return Ok(());
    }
    let wanted = Wanted { columns: weights, ..Wanted::default() };
    let reads = state.gather(&wanted)?.columns;
    let mut moved: BTreeMap<Scaling, usize> = BTreeMap::new();
    for (bridge, scaling) in chosen {
        let at = StageError::weight(&bridge.readers[0].layer.weight);
        if let Some(factors) = best(state, bridge, *scaling, &reads).map_err(&at)? {
            apply(&mut state.model, bridge, &factors)?;
            *moved.entry(*scaling).or_default() += 1;
        }
    }
    for (scaling, count) in moved {
        state.context.note(format!("{}: channels of {count} values scaled", scaling.name()));
    }
    Ok(())
}

/// The best factors of a bridge; `None` when none beat leaving it alone.
fn best(
    state: &State,
    bridge: &Bridge,
    scaling: Scaling,
    reads: &BTreeMap<String, ColumnStatistics>,
) -> OpResult<Option<Tensor>> {
    let mut parts = Vec::new();
    for reader in &bridge.readers {
        let (Some(seen), Some(weight)) = (reads.get(&reader.layer.weight), state.model.weights.get(&reader.layer.weight)) else {
            return Ok(None);
        };
        let Some(format) = state.weight(&reader.layer) else { return Ok(None) };
        parts.push((reader, weight.effective()?.f_detach()?, format, seen));
    }
    let Some((first, value, _, seen)) = parts.first() else { return Ok(None) };
    let channels = value.size()[first.axis];
    // All readers see the same value; windows of a convolution see each channel once for every place of the kernel.
    let each = |t: &Tensor, largest: bool| -> OpResult<Tensor> {
        let spread = t.f_reshape([channels, -1])?;
        Ok(if largest { spread.f_amax(1, false)? } else { spread.f_mean_dim(1, false, Kind::Float)? })
    };
    let activation = match scaling {
        Scaling::Smooth => each(&seen.largest, true)?,
        _ => each(&seen.mean, false)?,
    };
    let mut magnitude = Tensor::f_zeros([channels], (Kind::Float, tch::Device::Cpu))?;
    for (reader, value, ..) in &parts {
        magnitude = magnitude.f_maximum(&largest(value, reader.axis)?)?;
    }
    // Channels that are next to nothing on one side draw factors without end, and what samples did not show may still come: they keep
    // their scale.
    let lives = |t: &Tensor| -> OpResult<Tensor> { Ok(t.f_gt(t.f_max()?.f_double_value(&[])? * DEAD)?) };
    let alive = lives(&activation)?.f_logical_and(&lives(&magnitude)?)?;
    let one = activation.f_ones_like()?;
    let (activation, magnitude) = (activation.f_where_self(&alive, &one)?, magnitude.f_where_self(&alive, &one)?);
    let count = alive.f_sum(Kind::Double)?.f_clamp_min(1.0)?;
    let cost = |factors: &Tensor| -> OpResult<f64> {
        let mut sum = 0.0;
        for (reader, value, format, seen) in &parts {
            sum += error(state, reader, value, *format, seen, (factors, scaling))?;
        }
        Ok(sum)
    };
    let mut best = (cost(&one)?, None);
    for step in 1..=EXPONENTS {
        let a = step as f64 / EXPONENTS as f64;
        let raw = match scaling {
            Scaling::Smooth => activation.f_pow_tensor_scalar(a)?.f_div(&magnitude.f_pow_tensor_scalar(1.0 - a)?)?,
            _ => activation.f_pow_tensor_scalar(a)?,
        };
        // Dead channels add the logarithm of one, which is nothing.
        let middle = raw.f_log()?.f_sum(Kind::Double)?.f_div(&count)?.f_exp()?.f_to_kind(Kind::Float)?;
        let factors = raw.f_div(&middle)?.f_where_self(&alive, &one)?;
        let cost = cost(&factors)?;
        if cost < best.0 * 0.999 {
            best = (cost, Some(factors));
        }
    }
    Ok(best.1)
}

/// The squared error of a reader's output with these factors, from the second moments of what it reads: that of rounding its weight,
/// and with quantized activations the noise of rounding those over one range for all channels.
fn error(
    state: &State,
    reader: &Reader,
    value: &Tensor,
    format: Format,
    seen: &ColumnStatistics,
    (factors, scaling): (&Tensor, Scaling),
) -> OpResult<f64> {
    let slot = reader.layer.slot;
    let broad = along(factors, reader.axis, value)?;
    let scaled = value.f_mul(&broad)?;
    let mut error = 0.0;
    if let Some(params) = weight_params(slot, &scaled, format, false, None)? {
        let quantizer = Quantizer::new(&params)?;
        let change = slot.matrix(&quantizer.apply(&scaled)?.f_sub(&scaled)?.f_div(&broad)?)?;
        error += change.f_matmul(&seen.product)?.f_mul(&change)?.f_sum(Kind::Double)?.f_double_value(&[])?;
    }
    if scaling == Scaling::Smooth {
        let channels = factors.size()[0];
        let extreme = |t: &Tensor, least: bool| -> OpResult<f64> {
            let scaled = t.f_reshape([channels, -1])?.f_div(&factors.f_unsqueeze(1)?)?;
            Ok(if least { scaled.f_min()? } else { scaled.f_max()? }.f_double_value(&[])?)
        };
        let (low, high) = (extreme(&seen.low, true)?.min(0.0), extreme(&seen.high, false)?.max(0.0));
        let bits = state.resolved.activations.calibrated().map_or(8, Format::bits);
        let step = QuantParams::affine(bits, Levels::Unsigned, low as f32, high as f32)?.scale(0) as f64;
        let gain = scaled.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
        error += seen.rows as f64 * step * step / 12.0 * gain;
    }
    Ok(error)
}
