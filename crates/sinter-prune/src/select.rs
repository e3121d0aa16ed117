//! Which weights go, given their scores and the share that shall go.

use std::collections::BTreeMap;

use sinter_exec::costs;
use sinter_model::{Layer, Mask, Model, OpResult, to_f32s};
use sinter_train::StageError;
use tch::{Kind, Tensor};

use crate::config::{Scope, UnstructuredConfig};
use crate::mask::keep_largest;

/// Where layers compete, each keeps at least this part of the share that all keep together.
const LEAST: f64 = 0.2;

/// The shares of an unstructured pruning, resolved for one model.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    pub layers: Vec<Layer>,
    /// The share that each layer loses where layers do not compete.
    each: Vec<f64>,
    /// Layers that compete with each other for the whole share.
    competing: Vec<bool>,
    whole: f64,
    scope: Scope,
    /// Multiply-accumulates of one weight of each layer.
    macs: Vec<f64>,
    block: [usize; 2],
    /// Weights compete within each output channel.
    by_row: bool,
}

impl Shares {
    /// What the configuration says; `scanned` holds the shares that a sensitivity scan gave, by layer name.
    pub fn new(model: &Model, config: &UnstructuredConfig, scanned: &BTreeMap<String, f64>) -> Result<Self, StageError> {
        let layers = model.layers();
        let own = |layer: &Layer| config.layers.iter().rev().find(|o| o.r#match.matches(model, layer)).map(|o| o.ratio.get());
        let whole = config.sparsity.get();
        let each = layers.iter().map(|l| own(l).or_else(|| scanned.get(&l.name).copied()).unwrap_or(whole)).collect();
        let global = matches!(config.scope, Scope::Global | Scope::Macs);
        let competing = layers.iter().map(|l| global && own(l).is_none()).collect();
        let costs = costs(model)?;
        let weight_macs = |l: &Layer| -> Result<f64, StageError> {
            Ok(costs[l.node].macs as f64 / model.weight(&l.weight)?.numel().max(1) as f64)
        };
        let macs = layers.iter().map(weight_macs).collect::<Result<_, _>>()?;
        let by_row = config.criterion.kind().by_row() && !global && config.block == [1, 1];
        Ok(Self { layers, each, competing, whole, scope: config.scope, macs, block: config.block, by_row })
    }

    /// Whether a layer competes with others for the whole share.
    pub fn competes(&self, layer: usize) -> bool {
        self.competing[layer]
    }

    /// The shares of each layer, where layers do not compete.
    pub fn each(&self) -> impl Iterator<Item = (&Layer, f64)> {
        self.layers.iter().zip(self.each.iter().copied())
    }

    /// Masks for scores of each layer, when the part `progress` (0 to 1) of each share is due.
    pub fn masks(&self, scores: &[Tensor], progress: f64) -> Result<Vec<(String, Mask)>, StageError> {
        let at = |i: usize| StageError::weight(&self.layers[i].weight);
        let units = scores.iter().enumerate().map(|(i, s)| shrink(s, &self.layers[i], self.block).map_err(at(i)));
        let units = units.collect::<Result<Vec<_>, _>>()?;
        let mut keeps: Vec<Option<Tensor>> = Vec::new();
        for (i, unit) in units.iter().enumerate() {
            let share = self.each[i] * progress;
            keeps.push(match (self.competing[i], self.by_row) {
                (true, _) => None,
                (false, true) => Some(keep_by_row(unit, share).map_err(at(i))?),
                (false, false) => Some(keep_largest(unit, (unit.numel() as f64 * share).round() as usize).map_err(at(i))?),
            });
        }
        let competing: Vec<usize> = (0..units.len()).filter(|&i| self.competing[i]).collect();
        if !competing.is_empty() {
            let least = (1.0 - self.whole) * LEAST;
            let guarded = competing.iter().map(|&i| guard(&units[i], least).map_err(at(i))).collect::<Result<Vec<_>, _>>()?;
            let parts: Vec<&Tensor> = guarded.iter().collect();
            let joint = match self.scope {
                Scope::Macs => self.cheapest_macs(&competing, &parts, progress)?,
                _ => {
                    let flat = parts.iter().map(|p| p.f_reshape([-1])).collect::<Result<Vec<_>, _>>()?;
                    let flat = Tensor::f_cat(&flat, 0)?;
                    let drop = (flat.numel() as f64 * self.whole * progress).round() as usize;
                    keep_largest(&flat, drop)?
                }
            };
            let mut start = 0;
            for (&i, part) in competing.iter().zip(&parts) {
                let n = part.numel() as i64;
                keeps[i] = Some(joint.f_narrow(0, start, n)?.f_reshape(part.size())?);
                start += n;
            }
        }
        let mut masks = Vec::new();
        for (i, keep) in keeps.into_iter().enumerate() {
            let Some(keep) = keep else { continue };
            let keep = expand(&keep, &self.layers[i], &scores[i].size(), self.block).map_err(at(i))?;
            masks.push((self.layers[i].weight.clone(), Mask::new(&keep, None).map_err(at(i))?));
        }
        Ok(masks)
    }

    /// Ones for what stays when units go in the order of their score per multiply-accumulate until the share of those is reached.
    fn cheapest_macs(&self, layers: &[usize], units: &[&Tensor], progress: f64) -> Result<Tensor, StageError> {
        let mut all: Vec<(f32, f64, usize)> = Vec::new();
        for (&layer, unit) in layers.iter().zip(units) {
            let macs = self.macs[layer] * (self.block[0] * self.block[1]) as f64;
            let start = all.len();
            all.extend(to_f32s(unit)?.into_iter().enumerate().map(|(i, s)| (s / macs.max(1e-9) as f32, macs, start + i)));
        }
        let due = self.whole * progress * all.iter().map(|u| u.1).sum::<f64>();
        let mut keep = vec![1u8; all.len()];
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut gone = 0.0;
        for (_, macs, i) in all {
            if gone + macs > due {
                break;
            }
            gone += macs;
            keep[i] = 0;
        }
        Ok(Tensor::from_slice(&keep))
    }
}

/// Sets the masks of a model: what earlier masks drop stays dropped.
pub(crate) fn set_masks(model: &mut Model, masks: Vec<(String, Mask)>) -> Result<(), StageError> {
    for (name, mask) in masks {
        model.weight_mut(&name)?.prune(mask).map_err(StageError::weight(&name))?;
    }
    Ok(())
}

/// In each row (output channel) the same share of the smallest scores goes.
fn keep_by_row(scores: &Tensor, share: f64) -> OpResult<Tensor> {
    let drop = (scores.size()[1] as f64 * share).round() as i64;
    let keep = Tensor::f_ones_like(scores)?;
    if drop == 0 {
        return Ok(keep);
    }
    let (_, smallest) = scores.f_topk(drop, 1, false, false)?;
    Ok(keep.f_scatter_value(1, &smallest, 0.0)?)
}

/// Scores as a matrix of rectangles: the mean over each. A rectangle at the edge may be smaller.
fn shrink(scores: &Tensor, layer: &Layer, [rows, columns]: [usize; 2]) -> OpResult<Tensor> {
    let matrix = layer.slot.matrix(scores)?;
    if [rows, columns] == [1, 1] {
        return Ok(matrix);
    }
    let sums = |t: &Tensor| -> OpResult<Tensor> {
        let (r, c) = (rows as i64, columns as i64);
        let pad = |n: i64, by: i64| (by - n % by) % by;
        let size = t.size();
        let padded = t.f_constant_pad_nd([0, pad(size[1], c), 0, pad(size[0], r)])?;
        let (h, w) = (padded.size()[0] / r, padded.size()[1] / c);
        Ok(padded.f_reshape([h, r, w, c])?.f_sum_dim_intlist(&[1i64, 3][..], false, Kind::Float)?)
    };
    let finite = matrix.f_nan_to_num(0.0, None, 0.0)?;
    Ok(sums(&finite)?.f_div(&sums(&finite.f_ones_like()?)?)?)
}

/// The mask of weights from one of rectangles.
fn expand(keep: &Tensor, layer: &Layer, size: &[i64], [rows, columns]: [usize; 2]) -> OpResult<Tensor> {
    let out = size[layer.slot.out_axis];
    let fan_in = size.iter().product::<i64>() / out.max(1);
    let wide = keep.f_repeat_interleave_self_int(rows as i64, 0, None)?.f_repeat_interleave_self_int(columns as i64, 1, None)?;
    layer.slot.from_matrix(&wide.f_narrow(0, 0, out)?.f_narrow(1, 0, fan_in)?.f_contiguous()?, size)
}

/// Puts a share of the largest scores above all others: layers differ in scale, and one that lost everything would pass nothing on (layer
/// collapse; Tanaka et al., 2020).
fn guard(scores: &Tensor, share: f64) -> OpResult<Tensor> {
    let kept = (scores.numel() as f64 * share).ceil() as usize;
    let safe = keep_largest(scores, scores.numel().saturating_sub(kept))?;
    Ok(scores.f_masked_fill(&safe.f_ne(0)?, f32::MAX as f64)?)
}
