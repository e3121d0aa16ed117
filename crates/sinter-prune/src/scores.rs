//! How dispensable each weight is.

use std::collections::BTreeMap;

use sinter_data::Order;
use sinter_exec::Runner;
use sinter_model::{Layer, Model};
use sinter_train::{Context, StageError, fisher, saliency};
use tch::{Kind, Tensor};

use crate::config::WeightCriterion;

/// Training samples that gradients and input norms come from.
pub(crate) const SAMPLES: usize = 2048;

/// The score of every weight of these layers, each of its weight's shape: the smallest go first. `seen` holds what was gathered while
/// training, by weight; without it, gradients are taken now.
pub(crate) fn weight_scores(
    model: &Model,
    layers: &[Layer],
    criterion: WeightCriterion,
    seen: Option<&BTreeMap<String, Tensor>>,
    context: &Context,
) -> Result<Vec<Tensor>, StageError> {
    use WeightCriterion as W;
    let fresh;
    let gathered: Option<&BTreeMap<String, Tensor>> = match (seen, criterion) {
        (Some(seen), _) => Some(seen),
        (None, W::Taylor) => {
            fresh = saliency(model, SAMPLES, context)?;
            Some(&fresh)
        }
        (None, W::Fisher) => {
            fresh = fisher(model, SAMPLES, context)?;
            Some(&fresh)
        }
        (None, W::Wanda) => {
            fresh = input_norms(model, context)?;
            Some(&fresh)
        }
        _ => None,
    };
    let mut generator = fastrand::Rng::with_seed(context.seed);
    let mut scores = Vec::new();
    for layer in layers {
        let weight = model.weight(&layer.weight)?;
        let value = weight.effective().map_err(StageError::weight(&layer.weight))?.f_detach()?;
        let of = || gathered.and_then(|g| g.get(&layer.weight));
        let score = match (criterion, of()) {
            (W::Taylor | W::Movement, Some(term)) => term.shallow_clone(),
            (W::Lamp, _) => lamp(&value.f_square()?)?,
            (W::Fisher, Some(fisher)) => value.f_square()?.f_mul(fisher)?,
            (W::Wanda, Some(norms)) => value.f_abs()?.f_mul(norms)?,
            (W::Random, _) => {
                let numbers: Vec<f32> = (0..weight.numel()).map(|_| generator.f32()).collect();
                Tensor::from_slice(&numbers).f_reshape(weight.size())?
            }
            // Magnitude, and layers of which nothing else is known.
            _ => value.f_abs()?,
        };
        // What is pruned already stays so.
        scores.push(match weight.mask() {
            Some(mask) => score.f_masked_fill(&mask.keep().f_eq(0)?, f64::NEG_INFINITY)?,
            None => score,
        });
    }
    Ok(scores)
}

/// Each square as a part of the sum of those that are no smaller.
fn lamp(squares: &Tensor) -> Result<Tensor, StageError> {
    let (sorted, order) = squares.f_reshape([-1])?.f_to_kind(Kind::Double)?.f_sort(0, true)?;
    let part = sorted.f_div(&sorted.f_cumsum(0, Kind::Double)?.f_clamp_min(f64::MIN_POSITIVE)?)?.f_to_kind(Kind::Float)?;
    Ok(part.f_zeros_like()?.f_scatter(0, &order, &part)?.f_reshape(squares.size())?)
}

/// The Euclidean norm of each layer's inputs over training samples, of the weight's shape: constant over output channels.
pub(crate) fn input_norms(model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
    let mut sums: BTreeMap<String, (Layer, Tensor)> = BTreeMap::new();
    each_columns(model, SAMPLES, context, &mut |layer, rows| {
        let squares = rows.f_square()?.f_sum_dim_intlist(0, false, Kind::Float)?;
        let sum = match sums.remove(&layer.weight) {
            Some((_, sum)) => sum.f_add(&squares)?,
            None => squares,
        };
        sums.insert(layer.weight.clone(), (layer.clone(), sum));
        Ok(())
    })?;
    let mut norms = BTreeMap::new();
    for (name, (layer, sum)) in sums {
        let size = model.weight(&name)?.size();
        let matrix = sum.f_sqrt()?.f_unsqueeze(0)?.f_expand([size[layer.slot.out_axis], -1], false)?;
        norms.insert(name, layer.slot.from_matrix(&matrix, &size)?);
    }
    Ok(norms)
}

/// Shows the rows that each layer's weight multiplies, over training samples.
pub(crate) fn each_columns(
    model: &Model,
    samples: usize,
    context: &Context,
    visit: &mut dyn FnMut(&Layer, &Tensor) -> Result<(), tch::TchError>,
) -> Result<(), StageError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    let chosen = context.data.train.sample(samples, context.seed);
    let (mut seen, all) = (0, chosen.len());
    for batch in chosen.batches(64, Order::Stored) {
        let batch = batch?;
        let mut failed = None;
        tch::no_grad(|| {
            runner.run_columns(&[batch.x.shallow_clone()], &mut |layer, rows| {
                if let Err(e) = visit(layer, rows) {
                    failed = failed.take().or(Some((layer.weight.clone(), e)));
                }
                Ok(())
            })
        })?;
        if let Some((weight, source)) = failed {
            return Err(StageError::Weight { weight, source: source.into() });
        }
        seen += batch.x.size()[0] as usize;
        context.progress("inputs", seen, all);
    }
    Ok(())
}
