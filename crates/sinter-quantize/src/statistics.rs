//! What calibration samples tell of a model: one streaming pass, in memory that does not grow with their number.

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Layer, Mode, Model, with_f32s};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

use crate::calibrate::Observer;
use crate::config::Calibration;

/// Samples a batch.
const BATCH: usize = 64;
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
                let observed = ranges.get_mut(name).map_or(Ok(()), |observer| with_f32s(value, |v| observer.observe(v)));
                let summed =
                    inputs.get(name).into_iter().flatten().try_for_each(|(layer, axis)| add_mean(&mut sums, layer, *axis, value));
                failed = failed.take().or(observed.and(summed).err());
            })
        })?;
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        (seen, batches) = (seen + batch.x.size()[0] as usize, batches + 1);
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

/// `X^T X` of what each of these weights multiplies, float32 `[fan-in, fan-in]`. Weights that are not one matrix have none.
pub(crate) fn hessians(
    model: &Model,
    weights: &BTreeSet<String>,
    samples: &Split,
    context: &Context,
) -> Result<BTreeMap<String, Tensor>, StageError> {
    let samples = samples.sample(SECOND_ORDER, context.seed);
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut found: BTreeMap<String, Tensor> = BTreeMap::new();
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
                let mut add = || {
                    let rows = rows.f_to_kind(Kind::Float)?;
                    match found.get_mut(&layer.weight) {
                        Some(sum) => sum.f_addmm_(&rows.f_tr()?, &rows).map(|_| ()),
                        None => rows.f_tr()?.f_matmul(&rows).map(|product| drop(found.insert(layer.weight.clone(), product))),
                    }
                };
                add().map_err(fail)
            })
        })?;
        seen += batch.x.size()[0] as usize;
        context.progress("second-order statistics", seen, all);
    }
    Ok(found)
}
