//! What reads removed channels makes up for them: its other weights, and its bias, are fitted by least squares to the outputs that it gave
//! before (He et al., Channel pruning for accelerating very deep neural networks, 2017).

use std::collections::{BTreeMap, BTreeSet};

use sinter_calibrate::products;
use sinter_model::{Layer, Model, OpResult};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

use crate::channels::Channel;

/// Training samples that outputs are compared on.
const SAMPLES: usize = 512;
/// Added to the diagonal of the normal equations, as a share of its mean.
const DAMPING: f64 = 1e-3;

/// Fits every layer that reads one of these channels; the channels themselves are left for the caller to remove. Layers whose weight is
/// not one matrix, or is encoded already, stay as they are.
pub(crate) fn refit(model: &mut Model, gone: &[&Channel], context: &Context) -> Result<(), StageError> {
    let mut lost: BTreeMap<&str, BTreeSet<(usize, usize)>> = BTreeMap::new();
    for unit in gone.iter().flat_map(|c| &c.units) {
        lost.entry(&unit.name).or_default().insert((unit.axis, unit.index));
    }
    let reads = |l: &Layer| lost.get(l.weight.as_str()).is_some_and(|u| u.iter().any(|(axis, _)| *axis == l.slot.in_axis));
    let layers: Vec<Layer> = model.layers().into_iter().filter(|l| reads(l) && !model.weights[&l.weight].is_encoded()).collect();
    let wanted: BTreeSet<String> = layers.iter().map(|l| l.weight.clone()).collect();
    if wanted.is_empty() || context.data.train.is_empty() {
        return Ok(());
    }
    let samples = context.data.train.sample(SAMPLES, context.seed);
    let products = products(model, &wanted, true, &samples, &context.reporter())?;
    let readers = |name: &str| model.graph.nodes.iter().filter(|n| n.inputs.iter().any(|i| i == name)).count();
    let shared: BTreeSet<String> = layers.iter().flat_map(|l| [Some(&l.weight), l.bias.as_ref()]).flatten().cloned().collect();
    let shared: BTreeSet<String> = shared.into_iter().filter(|name| readers(name) > 1).collect();
    for layer in layers.iter().filter(|l| !shared.contains(&l.weight)) {
        let at = StageError::weight(&layer.weight);
        let Some(product) = products.get(&layer.weight) else { continue };
        let indices = lost[layer.weight.as_str()].iter().filter(|(axis, _)| *axis == layer.slot.in_axis).map(|(_, i)| *i);
        let bias = layer.bias.as_ref().filter(|b| !shared.contains(*b) && !model.weights[*b].is_encoded());
        let value = model.weight(&layer.weight)?.latent().f_detach()?;
        let (fitted, shift) = fit(layer, &value, product, &indices.collect(), bias.is_some()).map_err(&at)?;
        model.weight_mut(&layer.weight)?.set_latent(fitted).map_err(&at)?;
        if let (Some(bias), Some(shift)) = (bias.cloned(), shift) {
            let weight = model.weight_mut(&bias)?;
            let moved = weight.latent().f_detach()?.f_add(&shift.f_reshape(weight.size())?)?;
            weight.set_latent(moved).map_err(StageError::weight(&bias))?;
        }
    }
    Ok(())
}

/// The weight whose kept columns stand in for all, and what is to be added to the bias.
fn fit(
    layer: &Layer,
    value: &Tensor,
    product: &Tensor,
    gone: &BTreeSet<usize>,
    bias: bool,
) -> OpResult<(Tensor, Option<Tensor>)> {
    let matrix = layer.slot.matrix(value)?.f_to_kind(Kind::Double)?;
    let columns = matrix.size()[1];
    let channels = value.size()[layer.slot.in_axis];
    let places = (columns / channels.max(1)).max(1);
    let mut kept: Vec<i64> = (0..columns).filter(|c| !gone.contains(&((c / places) as usize))).collect();
    let few = kept.len() as i64;
    if bias {
        kept.push(columns);
    }
    let kept = Tensor::f_from_slice(&kept)?;
    let rows = product.f_index_select(0, &kept)?;
    let square = rows.f_index_select(1, &kept)?;
    let mean = square.f_diagonal(0, 0, 1)?.f_mean(Kind::Double)?.f_double_value(&[])?.max(1e-12);
    let damped =
        square.f_add(&Tensor::f_eye(kept.numel() as i64, (Kind::Double, tch::Device::Cpu))?.f_mul_scalar(DAMPING * mean)?)?;
    // The damping pulls toward the weights that are there, not toward zero.
    let now = matrix.f_constant_pad_nd([0, 1])?.f_index_select(1, &kept)?;
    let target = rows.f_narrow(1, 0, columns)?.f_matmul(&matrix.f_tr()?)?;
    let rest = target.f_sub(&square.f_matmul(&now.f_tr()?)?)?;
    let solved = now.f_add(&Tensor::f_linalg_solve(&damped, &rest, true)?.f_tr()?)?;
    let weights = solved.f_narrow(1, 0, few)?;
    let wide = matrix.f_zeros_like()?.f_index_copy(1, &kept.f_narrow(0, 0, few)?, &weights)?;
    let shift = if bias { Some(solved.f_select(1, few)?.f_to_kind(Kind::Float)?) } else { None };
    Ok((layer.slot.from_matrix(&wide.f_to_kind(Kind::Float)?, &value.size())?, shift))
}
