//! What calibration samples tell of a model: one streaming pass, in memory that does not grow with their number.

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Layer, Mode, Model, with_f32s_as_they_lie};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

use crate::calibrate::Observer;
use crate::config::Calibration;

/// Samples a batch.
const BATCH: usize = 64;
/// Samples whose means are taken: they settle sooner than extremes do.
const MEANS: usize = 256;
/// Samples that second-order rounding looks at: windows of a convolution make many rows of each.
const SECOND_ORDER: usize = 256;

/// Ranges of values, and means of what layers read.
pub(crate) struct Statistics {
    /// Of each float value that was asked for.
    pub ranges: BTreeMap<String, Observer>,
    /// Of each layer's input, by the name of its weight: the mean of each channel, float64 `[channels]`.
    pub means: BTreeMap<String, Tensor>,
}

/// Runs the samples through the model once.
pub(crate) fn gather(
    model: &Model,
    values: &BTreeSet<String>,
    layers: &[Layer],
    method: Calibration,
    samples: &Split,
    context: &Context,
) -> Result<Statistics, StageError> {
    let mut ranges: BTreeMap<String, Observer> = values.iter().map(|name| (name.clone(), Observer::new(method))).collect();
    let mut inputs: BTreeMap<&str, Vec<(&Layer, Option<usize>)>> = BTreeMap::new();
    for layer in layers {
        let node = &model.graph.nodes[layer.node];
        inputs.entry(&node.inputs[0]).or_default().push((layer, channel_axis(node.kind())));
    }
    let mut sums: BTreeMap<String, Tensor> = BTreeMap::new();
    let runner = tch::no_grad(|| Runner::new(model))?;
    let (mut integers, mut failed) = (BTreeSet::new(), None);
    let (mut seen, mut batches, all) = (0, 0, samples.len());
    for batch in samples.batches(BATCH, Order::Stored) {
        let batch = batch?;
        tch::no_grad(|| {
            runner.run_tapped(&[batch.x.shallow_clone()], Mode::Predict, &mut |name, value| {
                if value.kind() != Kind::Float {
                    integers.insert(name.to_string());
                    return;
                }
                let observed = ranges
                    .get_mut(name)
                    .map_or(Ok(()), |observer| with_f32s_as_they_lie(value, |v| observer.observe(v, batch.x.size()[0] as usize)));
                let read = inputs.get(name).filter(|_| seen < MEANS);
                let summed = read.into_iter().flatten().try_for_each(|(layer, axis)| add_mean(&mut sums, layer, *axis, value));
                failed = failed.take().or(observed.and(summed).err());
            })
        })?;
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        batches += i64::from(seen < MEANS);
        seen += batch.x.size()[0] as usize;
        context.progress("calibration", seen, all);
    }
    ranges.retain(|name, _| !integers.contains(name));
    let means = sums.into_iter().map(|(name, sum)| Ok((name, sum.f_div_scalar(batches.max(1))?)));
    Ok(Statistics { ranges, means: means.collect::<Result<_, StageError>>()? })
}

/// The axis of channels of what an operator reads: the second of a convolution, the last of a matrix product.
fn channel_axis(kind: &str) -> Option<usize> {
    match kind {
        "Conv" => Some(1),
        "Gemm" | "MatMul" => None,
        _ => Some(usize::MAX),
    }
}

fn add_mean(
    sums: &mut BTreeMap<String, Tensor>,
    layer: &Layer,
    axis: Option<usize>,
    value: &Tensor,
) -> sinter_model::OpResult<()> {
    let axis = axis.unwrap_or(value.dim().saturating_sub(1));
    if axis >= value.dim() {
        return Ok(());
    }
    let others: Vec<i64> = (0..value.dim() as i64).filter(|&a| a != axis as i64).collect();
    let mean = value.f_mean_dim(&others[..], false, Kind::Float)?.f_to_kind(Kind::Double)?;
    match sums.get_mut(&layer.weight) {
        Some(sum) => {
            let _ = sum.f_add_(&mean)?;
        }
        None => {
            sums.insert(layer.weight.clone(), mean);
        }
    }
    Ok(())
}

/// What the rows that a weight multiplies look like, column by column.
pub(crate) struct Reads {
    /// `X^T X`, float32 `[fan-in, fan-in]`.
    pub product: Tensor,
    /// The least, the greatest, the largest magnitude and the mean magnitude of each column, float32 `[fan-in]`.
    pub low: Tensor,
    pub high: Tensor,
    pub largest: Tensor,
    pub mean: Tensor,
    pub rows: i64,
}

impl Reads {
    fn of(rows: &Tensor) -> Result<Self, tch::TchError> {
        let rows = rows.f_to_kind(Kind::Float)?;
        let magnitude = rows.f_abs()?;
        Ok(Self {
            product: rows.f_tr()?.f_matmul(&rows)?,
            low: rows.f_amin(0, false)?,
            high: rows.f_amax(0, false)?,
            largest: magnitude.f_amax(0, false)?,
            mean: magnitude.f_mean_dim(0, false, Kind::Float)?,
            rows: rows.size()[0],
        })
    }

    fn join(self, other: Self) -> Result<Self, tch::TchError> {
        let rows = self.rows + other.rows;
        let weigh = |t: &Tensor, n: i64| t.f_mul_scalar(n as f64 / rows.max(1) as f64);
        Ok(Self {
            product: self.product.f_add(&other.product)?,
            low: self.low.f_minimum(&other.low)?,
            high: self.high.f_maximum(&other.high)?,
            largest: self.largest.f_maximum(&other.largest)?,
            mean: weigh(&self.mean, self.rows)?.f_add(&weigh(&other.mean, other.rows)?)?,
            rows,
        })
    }
}

/// What each of these weights multiplies. Weights that are not one matrix have nothing.
pub(crate) fn reads(
    model: &Model,
    weights: &BTreeSet<String>,
    samples: &Split,
    context: &Context,
) -> Result<BTreeMap<String, Reads>, StageError> {
    let samples = samples.sample(SECOND_ORDER, context.seed);
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut found: BTreeMap<String, Reads> = BTreeMap::new();
    let (mut seen, all) = (0, samples.len());
    for batch in samples.batches(BATCH, Order::Stored) {
        let batch = batch?;
        tch::no_grad(|| {
            runner.run_columns(&[batch.x.shallow_clone()], &mut |layer, rows| {
                if !weights.contains(&layer.weight) {
                    return Ok(());
                }
                let fail = |source: tch::TchError| sinter_exec::ExecError::Weight {
                    weight: layer.weight.clone(),
                    source: source.into(),
                };
                let new = Reads::of(rows).map_err(fail)?;
                let joined = match found.remove(&layer.weight) {
                    Some(old) => old.join(new).map_err(fail)?,
                    None => new,
                };
                found.insert(layer.weight.clone(), joined);
                Ok(())
            })
        })?;
        seen += batch.x.size()[0] as usize;
        context.progress("second-order statistics", seen, all);
    }
    Ok(found)
}
