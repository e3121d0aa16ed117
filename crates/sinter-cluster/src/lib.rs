//! The stage `cluster`: weights share a few values (Han et al., Deep Compression, 2016).
//!
//! Scalar codebooks come from one-dimensional k-means (see [`kmeans`]), vector codebooks from the `kmeans` crate, the number of centroids
//! from the user or from a budget of bytes. Pruned weights keep a centroid of their own at zero. Fine-tuning moves the centroids by the
//! summed gradients of their clusters; assignments stay, or follow the weights on a schedule, at a price for bits if the user wants.

mod budget;
mod config;
pub mod kmeans;
mod reassign;
mod vectors;

use std::collections::BTreeMap;

pub use config::{ClusterConfig, Importance, LayerCentroids, Precision, Scope};

use sinter_data::Dataset;
use sinter_model::{Bytes, Codebook, Grid, GridShape, Half, Layer, Model, OpResult, Role, fold_batch_norm, to_f32s};
use sinter_train::{Context, Stage, StageError, TeacherRef, Unguided, fisher, fit_guided};
use tch::{Kind, Tensor};

use budget::Demand;
use reassign::{Price, Reassign};

/// Training samples that estimate importance.
const FISHER_SAMPLES: usize = 2048;
/// The name of the table that all layers share.
const SHARED: &str = "shared";

impl Stage for ClusterConfig {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        self.check_config(model, data)
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.finetune.iter().flat_map(|f| f.teachers()).collect()
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        // A normalisation folded later would scale each channel's values apart.
        fold_batch_norm(&mut model)?;
        let importance = self.importances(&model, context)?;
        let chosen = self.choose(&model, &importance, context)?;
        let table = if self.scope == Scope::Shared { Some(shared_table(&model, &chosen, &importance)?) } else { None };
        for (i, (layer, k)) in chosen.iter().enumerate() {
            context.progress("k-means", i, chosen.len());
            let job = Job { scope: self.scope, vector: self.vector, k: *k, seed: context.seed, table: table.as_deref() };
            cluster_layer(&mut model, layer, &job, importance.get(&layer.weight), context)?;
        }
        if self.biases == Precision::Float16 {
            halve_others(&mut model);
        }
        if let Some(finetune) = &self.finetune {
            match self.reassign_every() {
                Some(every) => {
                    let layers = self.prices(&model, &chosen, importance)?;
                    fit_guided(&mut model, finetune, context, &mut Reassign { every, layers, step: 0 })?;
                }
                None => fit_guided(&mut model, finetune, context, &mut Unguided)?,
            }
        }
        Ok(model)
    }
}

impl ClusterConfig {
    /// How much each weight's error counts, by name, with a mean of 1 over all layers; empty where all count alike.
    fn importances(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        if self.importance == Importance::Uniform {
            return Ok(BTreeMap::new());
        }
        let found = fisher(model, FISHER_SAMPLES, context)?;
        let names: Vec<String> = model.layers().into_iter().map(|l| l.weight).collect();
        let found: BTreeMap<String, Tensor> = found.into_iter().filter(|(n, _)| names.contains(n)).collect();
        let (mut sum, mut count) = (0.0, 0);
        for tensor in found.values() {
            sum += tensor.f_sum(Kind::Double)?.f_double_value(&[])?;
            count += tensor.numel();
        }
        let mean = (sum / count.max(1) as f64).max(1e-30);
        found.into_iter().map(|(n, t)| Ok((n, t.f_div_scalar(mean)?))).collect()
    }

    /// The layers to cluster, in graph order, and the number of their centroids, zero included.
    fn choose(
        &self,
        model: &Model,
        importance: &BTreeMap<String, Tensor>,
        context: &Context,
    ) -> Result<Vec<(Layer, usize)>, StageError> {
        let Some(budget) = self.budget else {
            let layers = model.layers().into_iter().filter_map(|l| self.wanted(model, &l).map(|k| (l, k)));
            return Ok(layers.filter(|(_, k)| *k > 0).collect());
        };
        let layers: Vec<Layer> = model.layers().into_iter().filter(|l| self.wanted(model, l) != Some(0)).collect();
        let mut demands = Vec::new();
        for layer in &layers {
            let (values, weights) = samples(model, layer, importance.get(&layer.weight))?;
            let zeros = model.weight(&layer.weight)?.numel() - values.len();
            // Without a Hessian, errors count relative to the layer's own weights: layers differ in scale.
            let scale = if importance.is_empty() { 1.0 / mean_square(&values).max(1e-30) } else { 1.0 };
            let importance = match weights {
                Some(weights) => weights,
                None => vec![scale as f32; values.len()],
            };
            demands.push(Demand { values, importance, zeros });
        }
        let (chosen, bytes) = budget::allocate(&demands, budget.0).map_err(|least| {
            let reason = format!("the clustered layers take {} at least, more than the budget of {budget}", Bytes(least));
            StageError::Config { key: "budget".into(), reason, help: Some("raise the budget, or prune before clustering".into()) }
        })?;
        let told: Vec<String> = layers.iter().zip(&chosen).map(|(l, k)| format!("{} {}", l.name, k + 1)).collect();
        context.note(format!("centroids within {budget} (about {} entropy coded): {}", Bytes(bytes), told.join(", ")));
        Ok(layers.into_iter().zip(chosen).map(|(l, k)| (l, k + 1)).collect())
    }

    /// What errors and bits cost in each layer while training.
    fn prices(
        &self,
        model: &Model,
        chosen: &[(Layer, usize)],
        mut importance: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Price>, StageError> {
        // With a Hessian errors compare across layers, and so a bit costs the same in all of them.
        let weighted = !importance.is_empty();
        let mut squares = BTreeMap::new();
        for (layer, _) in chosen {
            let square = model.weight(&layer.weight)?.effective()?.f_detach()?.f_square()?;
            let kept = square.f_gt(0.0)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            let square = importance.get(&layer.weight).map_or(Ok(square.shallow_clone()), |h| square.f_mul(h))?;
            squares.insert(layer.weight.clone(), (square.f_sum(Kind::Double)?.f_double_value(&[])?, kept));
        }
        let all = squares.values().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let mean = |(sum, count): (f64, f64)| sum / count.max(1.0);
        let price = |(name, own): (String, (f64, f64))| {
            let bit = self.entropy * mean(if weighted { all } else { own });
            let importance = importance.remove(&name);
            (name, Price { importance, bit })
        };
        Ok(squares.into_iter().map(price).collect())
    }
}

/// How a layer is clustered.
struct Job<'a> {
    scope: Scope,
    vector: usize,
    /// Zero included.
    k: usize,
    seed: u64,
    /// The centroids, where all layers share them.
    table: Option<&'a [f32]>,
}

/// The value that is shared: the weight before its grid, which is a later link.
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
fn samples(model: &Model, layer: &Layer, importance: Option<&Tensor>) -> Result<(Vec<f32>, Option<Vec<f32>>), StageError> {
    let values = to_f32s(&shared_value(model, layer)?)?;
    let weights = importance.map(to_f32s).transpose()?;
    if model.weight(&layer.weight)?.mask().is_none() {
        return Ok((values, weights));
    }
    let kept = |i: &usize| values[*i] != 0.0;
    let weights = weights.map(|w| (0..w.len()).filter(kept).map(|i| w[i]).collect());
    Ok(((0..values.len()).filter(kept).map(|i| values[i]).collect(), weights))
}

fn mean_square(values: &[f32]) -> f64 {
    values.iter().map(|&v| v as f64 * v as f64).sum::<f64>() / values.len().max(1) as f64
}

/// Centroids for values of which some are zero by a mask: `k` in all, zero among them then.
fn scalar_centroids(values: Vec<f32>, weights: Option<Vec<f32>>, k: usize, masked: bool) -> Vec<f32> {
    let free = if masked { k - 1 } else { k };
    let mut centroids = match weights {
        Some(weights) => kmeans::fit_weighted(&values, &weights, free).centroids,
        None => kmeans::fit(values, free).centroids,
    };
    if masked {
        centroids.retain(|&c| c != 0.0);
        centroids.push(0.0);
    }
    centroids
}

/// The centroids that all chosen layers share: as many as the largest of them asks for, with zero among them, so that the table is the
/// same for layers with a mask and without, now and after a later pruning.
fn shared_table(model: &Model, chosen: &[(Layer, usize)], importance: &BTreeMap<String, Tensor>) -> Result<Vec<f32>, StageError> {
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

fn cluster_layer(
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
        vectors::fit(&value, importance, job.k, job.vector, job.seed)
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
    if let Some(bits) = weight.grid().filter(|g| g.shape() != GridShape::Tensor).map(|g| g.bits()) {
        let magnitude = value.f_abs()?.f_max()?.f_double_value(&[])? as f32;
        weight.quantize(Grid::symmetric(bits, GridShape::Tensor, &[magnitude])?).map_err(StageError::weight(name))?;
        if let Some(bias) = &layer.bias {
            model.weight_mut(bias)?.drop_grid();
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

/// Counts biases and all other float parameters that no link encodes as float16: next to shared weights they would be most of the file.
fn halve_others(model: &mut Model) {
    let plain = |w: &&mut sinter_model::Weight| w.role != Role::Constant && w.latent().kind() == Kind::Float && !w.is_encoded();
    let layers: Vec<String> = model.layers().into_iter().map(|l| l.weight).collect();
    model
        .weights
        .iter_mut()
        .filter(|(n, _)| !layers.contains(n))
        .map(|(_, w)| w)
        .filter(plain)
        .for_each(|w| w.halve(Half::Float16));
}
