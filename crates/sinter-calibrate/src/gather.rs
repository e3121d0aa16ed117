//! One streaming pass over samples for everything that is asked of the same state of a model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Layer, Mode, Model, OpResult, with_f32s_as_they_lie};
use tch::{Kind, Tensor};

use crate::Progress;
use crate::columns::ColumnStatistics;
use crate::error::CalibrateError;
use crate::not_finite::NotFinite;
use crate::observer::{Observer, Watch};
use crate::relevant::Relevant;

/// Samples a batch.
const BATCH: usize = 64;
/// Samples, spread evenly, whose means and second moments are taken: they settle sooner than extremes do, and windows of a convolution
/// make many rows of each.
const FEW: usize = 256;

/// What is asked.
#[derive(Debug, Default)]
pub struct Wanted {
    /// How each of these values is watched.
    pub values: BTreeMap<String, Watch>,
    /// The part of some of them that can show in a result; the rest does not widen their ranges.
    pub relevant: BTreeMap<String, Relevant>,
    /// Layers whose input's mean is wanted.
    pub means: Vec<Layer>,
    /// Weights whose columns are wanted: what they multiply.
    pub columns: BTreeSet<String>,
}

impl Wanted {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.means.is_empty() && self.columns.is_empty()
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Of each float value that was asked for.
    pub values: BTreeMap<String, Observer>,
    /// Values that were asked for and that hold infinities, in the order of the graph.
    pub infinite: Vec<NotFinite>,
    /// Of each layer's input, by the name of its weight: the mean of each channel, float64 `[channels]`.
    pub means: BTreeMap<String, Tensor>,
    /// By weight; those that are not one matrix have none.
    pub columns: BTreeMap<String, ColumnStatistics>,
}

/// Errors on NaN, tells of infinities once a value; `first` is where the batch begins among the samples.
fn look_closer(found: &mut Statistics, model: &Model, name: &str, value: &Tensor, first: i64) -> Result<(), CalibrateError> {
    let sample = |of: &Tensor| -> OpResult<Option<usize>> {
        let rows = of.f_reshape([of.size().first().copied().unwrap_or(1).max(1), -1])?.f_any_dim(1, false)?;
        let places = sinter_model::to_i64s(&rows.f_nonzero()?)?;
        Ok(places.first().map(|row| (first + row) as usize))
    };
    let node = model.graph.nodes.iter().find(|n| n.outputs.iter().any(|o| o == name));
    let node = node.map_or_else(|| "the input itself".to_string(), |n| format!("{} `{}`", n.kind(), n.name));
    let at = |sample: usize| NotFinite { value: name.to_string(), node: node.clone(), sample };
    if let Some(sample) = sample(&value.f_isnan()?)? {
        return Err(CalibrateError::NotANumber(at(sample)));
    }
    if let Some(sample) = sample(&value.f_isinf()?)?
        && found.infinite.iter().all(|known| known.value != name)
    {
        found.infinite.push(at(sample));
    }
    Ok(())
}

/// Runs the samples through the model once. Memory does not grow with their number.
pub fn gather(model: &Model, wanted: &Wanted, samples: &Split, progress: Progress) -> Result<Statistics, CalibrateError> {
    let mut found = Statistics::default();
    found.values.extend(wanted.values.iter().map(|(name, watch)| (name.clone(), Observer::new(*watch))));
    if wanted.is_empty() {
        return Ok(found);
    }
    let mut inputs: BTreeMap<&str, Vec<&Layer>> = BTreeMap::new();
    for layer in &wanted.means {
        inputs.entry(&model.graph.nodes[layer.node].inputs[0]).or_default().push(layer);
    }
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut readers: HashMap<String, Vec<Layer>> = runner.column_readers();
    readers.values_mut().for_each(|layers| layers.retain(|l| wanted.columns.contains(&l.weight)));
    let stride = samples.len().div_ceil(FEW).max(1) as i64;
    let mut integers = BTreeSet::new();
    let mut sums: BTreeMap<String, (Tensor, i64)> = BTreeMap::new();
    let mut seen = 0i64;
    for batch in samples.batches(BATCH, Order::Stored) {
        let batch = batch?;
        let count = batch.count();
        // Every so many-th sample of all, wherever batches begin.
        let first = (stride - seen % stride) % stride;
        let chosen = if first < count { (count - first).div_euclid(stride) + i64::from((count - first) % stride > 0) } else { 0 };
        let mut odd = Vec::new();
        tch::no_grad(|| {
            runner.run_tapped(&batch.inputs, Mode::Predict, &mut |name, value| {
                if value.kind() != Kind::Float {
                    integers.insert(name.to_string());
                    return Ok(());
                }
                if let Some(observer) = found.values.get_mut(name) {
                    let part = wanted.relevant.get(name).map(|r| r.clamp(value)).transpose()?;
                    let part = part.as_ref().unwrap_or(value);
                    if !with_f32s_as_they_lie(part, |v| observer.observe(v, count as usize))? {
                        odd.push((name.to_string(), part.shallow_clone()));
                    }
                }
                let (means, columns) = (inputs.get(name), readers.get(name));
                if chosen == 0 || (means.is_none() && columns.is_none_or(Vec::is_empty)) {
                    return Ok(());
                }
                // A value whose first axis is no batch is taken whole.
                let part = match value.size().first() == Some(&count) && stride > 1 {
                    true => value.f_slice(0, first, None::<i64>, stride)?,
                    false => value.shallow_clone(),
                };
                means.into_iter().flatten().try_for_each(|layer| add_mean(model, &mut sums, layer, &part, chosen))?;
                columns.into_iter().flatten().try_for_each(|layer| {
                    runner.columns(layer, &part, &mut |layer, rows| join(&mut found.columns, &layer.weight, rows))
                })
            })
        })?;
        odd.iter().try_for_each(|(name, value)| look_closer(&mut found, model, name, value, seen))?;
        seen += count;
        progress("calibration", seen as usize, samples.len());
    }
    found.values.retain(|name, _| !integers.contains(name));
    for (weight, (sum, times)) in sums {
        found.means.insert(weight, sum.f_div_scalar(times.max(1))?);
    }
    Ok(found)
}

/// Adds the mean of each channel that a layer reads, as often as there are samples: once in a batch, or at each step of its sequences.
fn add_mean(
    model: &Model,
    sums: &mut BTreeMap<String, (Tensor, i64)>,
    layer: &Layer,
    value: &Tensor,
    samples: i64,
) -> OpResult<()> {
    let Some(axis) = model.graph.nodes[layer.node].op.channel_axis(value.dim()).filter(|a| *a < value.dim()) else {
        return Ok(());
    };
    let others: Vec<i64> = (0..value.dim() as i64).filter(|&a| a != axis as i64).collect();
    let mean = value.f_mean_dim(&others[..], false, Kind::Float)?.f_to_kind(Kind::Double)?.f_mul_scalar(samples)?;
    match sums.get_mut(&layer.weight) {
        Some((sum, times)) => {
            drop(sum.f_add_(&mean)?);
            *times += samples;
        }
        None => drop(sums.insert(layer.weight.clone(), (mean, samples))),
    }
    Ok(())
}

fn join(columns: &mut BTreeMap<String, ColumnStatistics>, weight: &str, rows: &Tensor) -> OpResult<()> {
    let new = ColumnStatistics::of(rows)?;
    let joined = match columns.remove(weight) {
        Some(old) => old.join(new)?,
        None => new,
    };
    columns.insert(weight.to_string(), joined);
    Ok(())
}
