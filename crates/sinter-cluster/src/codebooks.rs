//! Codebooks for the weights of a layer.

use std::collections::BTreeMap;

use sinter_model::{Codebook, Granularity, Layer, Model, OpResult, QuantParams, Quantizer, to_f32s};
use sinter_train::{Context, StageError};
use tch::Tensor;

use crate::algorithms::{scalar, vector};
use crate::config::Scope;

/// The name of the table that all layers share.
const SHARED: &str = "shared";

/// How a layer is clustered.
pub(crate) struct Job<'a> {
    pub scope: Scope,
    pub vector: usize,
    /// Zero included.
    pub k: usize,
    pub seed: u64,
    /// The centroids, where all layers share them.
    pub table: Option<&'a [f32]>,
}

/// The value that is shared: the weight before its quantizer, which is a later link.
fn shared_value(model: &Model, layer: &Layer) -> Result<Tensor, StageError> {
    let weight = model.weight(&layer.weight)?;
    let mut value = weight.latent().f_detach()?;
    let at = StageError::weight(&layer.weight);
    if let Some(mask) = weight.mask() {
        value = mask.apply(&value).map_err(&at)?;
    }
    if let Some(codebook) = weight.codebook() {
        value = codebook.apply(&value).map_err(&at)?.f_detach()?;
    }
    Ok(value)
}

/// The values of a layer that take centroids, and how much each counts; what a mask drops is left out.
pub(crate) fn samples(
    model: &Model,
    layer: &Layer,
    importance: Option<&Tensor>,
) -> Result<(Vec<f32>, Option<Vec<f32>>), StageError> {
    let values = to_f32s(&shared_value(model, layer)?)?;
    let weights = importance.map(to_f32s).transpose()?;
    if model.weight(&layer.weight)?.mask().is_none() {
        return Ok((values, weights));
    }
    let kept = |i: &usize| values[*i] != 0.0;
    let weights = weights.map(|w| (0..w.len()).filter(kept).map(|i| w[i]).collect());
    Ok(((0..values.len()).filter(kept).map(|i| values[i]).collect(), weights))
}

pub(crate) fn mean_square(values: &[f32]) -> f64 {
    values.iter().map(|&v| v as f64 * v as f64).sum::<f64>() / values.len().max(1) as f64
}

/// Centroids for values of which some are zero by a mask: `k` in all, zero among them then.
fn scalar_centroids(values: Vec<f32>, weights: Option<Vec<f32>>, k: usize, masked: bool) -> Vec<f32> {
    let free = if masked { k - 1 } else { k };
    let mut centroids = match weights {
        Some(weights) => scalar::fit_weighted(&values, &weights, free).centroids,
        None => scalar::fit(values, free).centroids,
    };
    if masked {
        centroids.retain(|&c| c != 0.0);
        centroids.push(0.0);
    }
    centroids
}

/// The centroids that all chosen layers share: as many as the largest of them asks for, with zero among them, so that the table is the
/// same for layers with a mask and without, now and after a later pruning.
pub(crate) fn shared_table(
    model: &Model,
    chosen: &[(Layer, usize)],
    importance: &BTreeMap<String, Tensor>,
) -> Result<Vec<f32>, StageError> {
    let (mut values, mut weights) = (Vec::new(), Vec::new());
    for (layer, _) in chosen {
        let (v, w) = samples(model, layer, importance.get(&layer.weight))?;
        values.extend(v);
        weights.extend(w.unwrap_or_default());
    }
    let k = chosen.iter().map(|(_, k)| *k).max().unwrap_or(2);
    let weights = (!weights.is_empty()).then_some(weights);
    Ok(scalar_centroids(values, weights, k, true))
}

pub(crate) fn cluster_layer(
    model: &mut Model,
    layer: &Layer,
    job: &Job,
    importance: Option<&Tensor>,
    context: &Context,
) -> Result<(), StageError> {
    let name = &layer.weight;
    let value = shared_value(model, layer)?;
    let keep = model.weight(name)?.mask().map(|m| m.keep().shallow_clone());
    let row: i64 = value.size().iter().skip(1).product();
    let codebook = if job.vector > 1 {
        if row % job.vector as i64 != 0 {
            context.note(format!("{}: rows of {row} weights are not whole runs of {}, left as they are", layer.name, job.vector));
            return Ok(());
        }
        vector::fit(&value, importance, job.k, job.vector, job.seed)
    } else if let Some(table) = job.table {
        Codebook::assign(table, &value, keep.as_ref()).and_then(|c| Ok(c.pin_zero()?.shared(Some(SHARED.into()))))
    } else if job.scope == Scope::Channel {
        channel_codebook(&value, importance, keep.as_ref(), layer.slot.out_axis, job.k)
    } else {
        let (values, weights) = samples(model, layer, importance)?;
        Codebook::assign(&scalar_centroids(values, weights, job.k, keep.is_some()), &value, keep.as_ref())
    };
    let codebook = codebook.map_err(StageError::weight(name))?;
    let weight = model.weight_mut(name)?;
    weight.set_latent(value.copy()).map_err(StageError::weight(name))?;
    weight.cluster(codebook).map_err(StageError::weight(name))?;
    // A scale a channel would part the shared values again: a quantized weight gets one scale, and its bias, whose scale followed, none.
    if let Some(bits) = weight.quantizer().filter(|g| g.granularity() != Granularity::Tensor).map(|g| g.bits()) {
        let magnitude = value.f_abs()?.f_max()?.f_double_value(&[])? as f32;
        let params = QuantParams::symmetric(bits, Granularity::Tensor, &[magnitude])?;
        weight.quantize(Quantizer::new(&params)?).map_err(StageError::weight(name))?;
        if let Some(bias) = &layer.bias {
            model.weight_mut(bias)?.drop_quantizer();
        }
    }
    Ok(())
}

/// One table for each index of `axis`.
fn channel_codebook(
    value: &Tensor,
    importance: Option<&Tensor>,
    keep: Option<&Tensor>,
    axis: usize,
    k: usize,
) -> OpResult<Codebook> {
    let (mut tables, mut pinned, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let slice = |t: Option<&Tensor>, i: i64| t.map(|t| t.f_select(axis as i64, i)).transpose();
    for channel in 0..value.size()[axis] {
        let part = value.f_select(axis as i64, channel)?;
        let keep = slice(keep, channel)?;
        let mut values = to_f32s(&part)?;
        let mut weights = slice(importance, channel)?.map(|w| to_f32s(&w)).transpose()?;
        if keep.is_some() {
            weights = weights.map(|w| w.into_iter().zip(&values).filter(|(_, v)| **v != 0.0).map(|(w, _)| w).collect());
            values.retain(|&v| v != 0.0);
        }
        let codebook = Codebook::assign(&scalar_centroids(values, weights, k, keep.is_some()), &part, keep.as_ref())?;
        // Every table has the same length: a short one is filled up with its last value, which nobody takes.
        let mut centroids = to_f32s(codebook.centroids())?;
        let last = centroids.last().copied().unwrap_or(0.0);
        centroids.resize(k, last);
        pinned.extend(codebook.pinned().iter().map(|p| tables.len() + p));
        rows.push(codebook.indices().f_add_scalar(tables.len() as i64)?);
        tables.extend(centroids);
    }
    Codebook::new(&Tensor::from_slice(&tables), &Tensor::f_stack(&rows, axis as i64)?, pinned)?.by_channel(axis)
}
