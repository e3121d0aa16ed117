//! Parameters for weights: how many share a scale, and how large it is.

use rayon::prelude::*;
use sinter_model::{Granularity, Layer, Levels, Model, OpResult, QuantParams, Quantizer, WeightSlot, with_f32s};
use sinter_train::StageError;
use tch::Tensor;

use crate::formats::{Format, Number, Per};

/// Candidates for a scale are so far apart, as a share of the largest magnitude; then as many again lie between the neighbours of the best.
const STEP: f32 = 0.075;

/// The parameters of a weight, or `None` for a format without any. `one_scale`: for all, whatever the format says; it keeps the number of distinct
/// values that clustering reached, and serves layers that read one weight either way round. `importance`, of the weight's shape, says how much each squared error counts.
pub(crate) fn weight_params(
    slot: WeightSlot,
    value: &Tensor,
    format: Format,
    one_scale: bool,
    importance: Option<&Tensor>,
) -> OpResult<Option<QuantParams>> {
    let Some((bits, levels)) = integers(format) else { return Ok(None) };
    let granularity = granularity(slot, format, one_scale);
    let (low, high) = levels.range(bits);
    if levels == Levels::Unsigned {
        return asymmetric(value, bits, granularity).map(Some);
    }
    let scale = |values: &[f32], counts: Option<&[f32]>| match (bits, levels) {
        (_, Levels::Binary) => mean_magnitude(values),
        (8.., _) => top(values) / high as f32,
        _ => least_squares(values, counts, low as f32, high as f32),
    };
    let scales = each_scale(value, importance, granularity, &scale)?;
    // Where all weights are zero the scale is tiny.
    let floor = scales.iter().fold(0f32, |a, &b| a.max(b)).max(1e-6) * 1e-4;
    let scales: Vec<f32> = scales.into_iter().map(|s| s.max(floor)).collect();
    let params = match bits {
        8.. => QuantParams::symmetric(bits, granularity, &scales.iter().map(|s| s * high as f32).collect::<Vec<_>>()),
        _ => QuantParams::scaled(bits, levels, granularity, &scales),
    };
    params.map(Some)
}

/// Rounds a look-up table to the nearest of a format.
pub(crate) fn quantize_table(model: &mut Model, table: &Layer, format: Format) -> Result<(), StageError> {
    let at = StageError::weight(&table.weight);
    let weight = model.weight_mut(&table.weight)?;
    if let Number::Half(half) = format.number {
        weight.to_half(half);
        return Ok(());
    }
    let value = weight.effective().map_err(&at)?.f_detach()?;
    let one_scale = weight.codebook().is_some();
    let Some(params) = weight_params(table.slot, &value, format, one_scale, None).map_err(&at)? else { return Ok(()) };
    weight.quantize(Quantizer::new(&params).map_err(&at)?).map_err(&at)
}

/// The width and the integers that a format has for weights; `None` for sixteen bits of floating point.
pub(crate) fn integers(format: Format) -> Option<(u8, Levels)> {
    match format.number {
        // From three bits on the lowest integer stays unused, so that -q exists for every q.
        Number::Integer { bits: bits @ 3.., levels: Levels::Signed } => Some((bits, Levels::Symmetric)),
        Number::Integer { bits, levels } => Some((bits, levels)),
        Number::Half(_) => None,
    }
}

/// How many weights share a scale, and along which axis.
pub(crate) fn granularity(slot: WeightSlot, format: Format, one_scale: bool) -> Granularity {
    match format.per {
        _ if one_scale => Granularity::Tensor,
        Per::Tensor => Granularity::Tensor,
        Per::Channel => Granularity::Channel(slot.out_axis),
        Per::Group(size) => Granularity::Group { axis: slot.in_axis, size },
    }
}

/// Over the range of each scale's elements, zero included and exact.
fn asymmetric(value: &Tensor, bits: u8, granularity: Granularity) -> OpResult<QuantParams> {
    let lows = each_scale(value, None, granularity, &|values, _| values.iter().fold(0f32, |a, &v| a.min(v)))?;
    let highs = each_scale(value, None, granularity, &|values, _| values.iter().fold(0f32, |a, &v| a.max(v)))?;
    let top = Levels::Unsigned.range(bits).1 as f32;
    let spans: Vec<f32> = lows.iter().zip(&highs).map(|(low, high)| (high - low) / top).collect();
    let floor = spans.iter().fold(0f32, |a, &b| a.max(b)).max(1e-6) * 1e-4;
    // Rounded up, so that the range still holds all.
    let scales: Vec<f32> = spans.into_iter().map(|s| QuantParams::storable(s.max(floor))).collect();
    let zeros: Vec<i64> =
        lows.iter().zip(&scales).map(|(low, s)| ((-low / s).round_ties_even() as i64).clamp(0, top as i64)).collect();
    QuantParams::new(bits, Levels::Unsigned, granularity, scales, zeros)
}

/// What `scale` says of the elements of each scale, in the order of the quantizer.
fn each_scale(
    value: &Tensor,
    importance: Option<&Tensor>,
    granularity: Granularity,
    scale: &(impl Fn(&[f32], Option<&[f32]>) -> f32 + Sync),
) -> OpResult<Vec<f32>> {
    // Rows that lie in one piece, and how many elements of a row share a scale.
    let rows = |t: &Tensor| -> OpResult<Tensor> {
        Ok(match granularity {
            Granularity::Tensor => t.f_reshape([1, -1])?,
            Granularity::Channel(axis) => t.f_movedim_int(axis as i64, 0)?.f_reshape([t.size()[axis], -1])?,
            Granularity::Group { axis, .. } => t.f_movedim_int(axis as i64, -1)?.f_reshape([-1, t.size()[axis]])?,
        })
    };
    let values = rows(value)?;
    let row = values.size()[1].max(1) as usize;
    let run = if let Granularity::Group { size, .. } = granularity { size } else { row };
    let importance = importance.map(rows).transpose()?;
    let found: Vec<f32> = with_f32s(&values, |values| match &importance {
        None => {
            let each = |r: &[f32]| r.chunks(run).map(|part| scale(part, None)).collect::<Vec<_>>();
            Ok(values.par_chunks(row).flat_map_iter(each).collect())
        }
        Some(importance) => with_f32s(importance, |counts| {
            let each = |(r, c): (&[f32], &[f32])| {
                r.chunks(run).zip(c.chunks(run)).map(|(part, counts)| scale(part, Some(counts))).collect::<Vec<_>>()
            };
            values.par_chunks(row).zip(counts.par_chunks(row)).flat_map_iter(each).collect()
        }),
    })??;
    let Granularity::Group { axis, .. } = granularity else { return Ok(found) };
    // From runs along the last axis to the order of the weight.
    let mut moved = granularity.blocks(&value.size());
    let runs = moved.remove(axis);
    moved.push(runs);
    let ordered = Tensor::f_from_slice(&found)?.f_reshape(moved)?.f_movedim_int(-1, axis as i64)?;
    sinter_model::to_f32s(&ordered)
}

fn top(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |a, v| a.max(v.abs()))
}

/// The scale of binary weights (Rastegari et al., 2016).
fn mean_magnitude(values: &[f32]) -> f32 {
    (values.iter().map(|v| v.abs() as f64).sum::<f64>() / values.len().max(1) as f64) as f32
}

/// The scale of least squared error. For ternary weights it is at least as good as the closed form of Li et al. (2016), which
/// approximates it.
fn least_squares(values: &[f32], counts: Option<&[f32]>, low: f32, high: f32) -> f32 {
    let whole = top(values) / high;
    if whole == 0.0 {
        return 0.0;
    }
    let error = |scale: f32| -> f32 {
        let inverse = 1.0 / scale;
        // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even.
        let rounded = |v: f32| ((v * inverse).clamp(low, high) + 12_582_912.0) - 12_582_912.0;
        let off = |v: f32| v - rounded(v) * scale;
        // Sixteen sums side by side.
        let mut sums = [0f32; 16];
        match counts {
            None => {
                for part in values.chunks(16) {
                    part.iter().zip(&mut sums).for_each(|(&v, sum)| *sum += off(v) * off(v));
                }
            }
            Some(counts) => {
                for (part, counts) in values.chunks(16).zip(counts.chunks(16)) {
                    part.iter().zip(counts).zip(&mut sums).for_each(|((&v, &c), sum)| *sum += c * off(v) * off(v));
                }
            }
        }
        sums.iter().sum()
    };
    // The more bits, the less is worth clipping.
    let count = if high >= 7.0 { 7 } else { 13 };
    let best = |from: f32, to: f32| {
        let candidate = |i: usize| from + (to - from) * i as f32 / (count - 1) as f32;
        let each = (0..count).map(|i| (error(candidate(i)), candidate(i)));
        each.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(whole, |(_, scale)| scale)
    };
    let (step, least) = (STEP * whole, (1.0 - STEP * (count - 1) as f32) * whole);
    let coarse = best(least, whole);
    best((coarse - step).max(least), (coarse + step).min(whole))
}
