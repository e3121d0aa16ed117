//! Masks: unstructured by magnitude, and N:M.

use sinter_model::{Layer, Mask, Model, NmPattern, OpResult};
use sinter_train::{Context, LayerPattern, StageError};
use tch::{Kind, Tensor};

use crate::config::{NmText, Scope, UnstructuredConfig};

/// Ones for the `n - round(n * sparsity)` elements of largest magnitude; among equals the first are dropped. Same shape as `weight`.
pub fn magnitude_mask(weight: &Tensor, sparsity: f64) -> OpResult<Tensor> {
    let flat = weight.f_detach()?.f_abs()?.f_reshape([-1])?;
    let n = flat.numel() as i64;
    let drop = (n as f64 * sparsity).round() as i64;
    if drop <= 0 {
        return Ok(weight.f_ones_like()?);
    }
    let (threshold, _) = flat.f_kthvalue(drop.min(n), 0, false)?;
    let below = flat.f_lt_tensor(&threshold)?;
    let equal = flat.f_eq_tensor(&threshold)?;
    let left = drop - below.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    let among = equal.f_cumsum(0, Kind::Int64)?.f_le(left)?.f_logical_and(&equal)?;
    Ok(below.f_logical_or(&among)?.f_logical_not()?.f_to_kind(Kind::Float)?.f_reshape(weight.size())?)
}

/// Ones for the `n` largest magnitudes of each run of `m` along `axis`; a shorter last run keeps at most `n` too.
pub fn nm_mask(weight: &Tensor, pattern: NmPattern) -> OpResult<Tensor> {
    let (n, m) = (pattern.n as i64, pattern.m as i64);
    let moved = weight.f_detach()?.f_abs()?.f_movedim_int(pattern.axis as i64, -1)?;
    let shape = moved.size();
    let len = shape[shape.len() - 1];
    let rows = moved.f_reshape([-1, len])?.f_constant_pad_nd([0, (m - len % m) % m])?;
    let runs = rows.f_reshape([-1, m])?;
    let (_, top) = runs.f_topk(n, 1, true, false)?;
    let kept = runs.f_zeros_like()?.f_scatter_value(1, &top, 1.0)?.f_reshape(rows.size())?;
    Ok(kept.f_narrow(1, 0, len)?.f_reshape(shape)?.f_movedim_int(-1, pattern.axis as i64)?.f_contiguous()?)
}

pub(crate) fn prune_unstructured(model: &mut Model, config: &UnstructuredConfig) -> Result<(), StageError> {
    let layers = model.layers();
    let ratio = |layer: &Layer| {
        let special = config.layers.iter().rev().find(|o| o.r#match.matches(model, layer));
        special.map_or(config.sparsity, |o| o.ratio).get()
    };
    let mut masks = Vec::new();
    match config.scope {
        Scope::Layer => {
            for layer in &layers {
                let value = model.weight(&layer.weight)?.effective()?;
                masks.push((layer.weight.clone(), magnitude_mask(&value, ratio(layer))?));
            }
        }
        Scope::Global => {
            // One threshold over all layers that are not exempt.
            let chosen: Vec<&Layer> = layers.iter().filter(|l| ratio(l) > 0.0).collect();
            let values = chosen
                .iter()
                .map(|l| Ok(model.weight(&l.weight)?.effective()?.f_detach()?))
                .collect::<Result<Vec<_>, StageError>>()?;
            let flat = values.iter().map(|v| v.f_reshape([-1])).collect::<Result<Vec<_>, _>>()?;
            if flat.is_empty() {
                return Ok(());
            }
            let mask = magnitude_mask(&Tensor::f_cat(&flat, 0)?, config.sparsity.get())?;
            let mut start = 0;
            for (layer, value) in chosen.iter().zip(&values) {
                let n = value.numel() as i64;
                masks.push((layer.weight.clone(), mask.f_narrow(0, start, n)?.f_reshape(value.size())?));
                start += n;
            }
        }
    }
    for (name, keep) in masks {
        let mask = Mask::new(&keep, None)?;
        model.weight_mut(&name)?.prune(mask).map_err(StageError::weight(&name))?;
    }
    Ok(())
}

pub(crate) fn prune_pattern(
    model: &mut Model,
    pattern: NmText,
    chosen: &[LayerPattern],
    context: &Context,
) -> Result<(), StageError> {
    let mut pruned = 0;
    for layer in model.layers() {
        let named = chosen.iter().any(|p| p.matches(model, &layer));
        if !chosen.is_empty() && !named {
            continue;
        }
        let weight = model.weight(&layer.weight)?;
        let len = weight.size()[layer.slot.in_axis];
        if len % pattern.m as i64 != 0 {
            let reason = format!("{}: {len} input channels are no multiple of {}", layer.name, pattern.m);
            if named {
                return Err(StageError::config("layers", reason));
            }
            context.note(format!("{reason}, left as it is"));
            continue;
        }
        let p = NmPattern { n: pattern.n, m: pattern.m, axis: layer.slot.in_axis };
        let mask = Mask::new(&nm_mask(&weight.effective()?, p)?, Some(p))?;
        model.weight_mut(&layer.weight)?.prune(mask).map_err(StageError::weight(&layer.weight))?;
        pruned += 1;
    }
    if pruned == 0 {
        return Err(StageError::config("pattern", format!("no layer's input channels are a multiple of {}", pattern.m)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sinter_model::to_f32s;

    #[test]
    fn equal_magnitudes_are_cut_to_the_exact_number() {
        let weight = Tensor::from_slice(&[1f32, -1.0, 1.0, 1.0, 2.0, 0.5]);
        let mask = magnitude_mask(&weight, 0.5).unwrap();
        assert_eq!(to_f32s(&mask).unwrap(), [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    proptest! {
        /// Against sorting: the kept ones are the largest, and their number is exact.
        #[test]
        fn magnitude_masks_keep_the_largest(values in proptest::collection::vec(-4i8..4, 1..60), sparsity in 0.0..1.0f64) {
            let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let mask = to_f32s(&magnitude_mask(&Tensor::from_slice(&floats), sparsity).unwrap()).unwrap();
            let dropped = mask.iter().filter(|m| **m == 0.0).count();
            prop_assert_eq!(dropped, (values.len() as f64 * sparsity).round() as usize);
            let least_kept = floats.iter().zip(&mask).filter(|(_, m)| **m == 1.0).map(|(v, _)| v.abs()).fold(f32::INFINITY, f32::min);
            let most_dropped = floats.iter().zip(&mask).filter(|(_, m)| **m == 0.0).map(|(v, _)| v.abs()).fold(0.0, f32::max);
            prop_assert!(most_dropped <= least_kept);
        }

        /// Every run keeps exactly n, and the largest.
        #[test]
        fn nm_masks_are_valid(rows in 1usize..5, runs in 1usize..5, n in 1usize..4, seed in 0i64..1000) {
            tch::manual_seed(seed);
            let weight = Tensor::randn([rows as i64, 4 * runs as i64], (Kind::Float, tch::Device::Cpu));
            let p = NmPattern { n, m: 4, axis: 1 };
            let keep = nm_mask(&weight, p).unwrap();
            for (run, value) in to_f32s(&keep).unwrap().chunks(4).zip(to_f32s(&weight).unwrap().chunks(4)) {
                prop_assert_eq!(run.iter().sum::<f32>() as usize, n);
                let kept = run.iter().zip(value).filter(|(k, _)| **k == 1.0).map(|(_, v)| v.abs()).fold(f32::INFINITY, f32::min);
                let lost = run.iter().zip(value).filter(|(k, _)| **k == 0.0).map(|(_, v)| v.abs()).fold(0.0, f32::max);
                prop_assert!(lost <= kept);
            }
            let mask = Mask::new(&keep, Some(p)).unwrap();
            prop_assert_eq!(mask.broken(&mask.apply(&weight).unwrap()).unwrap(), None);
        }
    }
}
