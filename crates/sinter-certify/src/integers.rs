//! A layer as integer kernels compute it.

use sinter_model::{
    Granularity, IntegerKernel, Layer, Levels, Model, Node, QuantParams, Quantizer, integer_bias, to_f32s, to_i64s,
};
use tch::{Kind, Tensor};

use crate::error::CertifyError;

/// One layer in integers.
pub(crate) struct Integers {
    /// Less their zero points, `[channels, fan-in]`.
    pub weights: Vec<Vec<i64>>,
    /// One a channel.
    pub biases: Vec<i64>,
    /// What an input holds, less its zero point: the lowest and the highest.
    pub input: (i64, i64),
    /// `input scale * weight scale`, one a channel.
    pub units: Vec<f64>,
}

/// A layer's integers; else why it has none.
pub(crate) fn integers(model: &Model, layer: &Layer, node: &Node) -> Result<Result<Integers, &'static str>, CertifyError> {
    let Some(IntegerKernel::Product { out_axis, .. }) = node.op.integer_kernel() else {
        return Ok(Err("no kernel of integers computes it"));
    };
    let Some(input) = model.integers_read(node).filter(|q| q.bits() <= 8) else { return Ok(Err("it reads floats")) };
    let Some(weight) = model.weights.get(&layer.weight) else { return Ok(Err("its weight is not stored")) };
    let Some(quantizer) = weight.quantizer().filter(|q| q.bits() <= 8) else { return Ok(Err("its weight is in float")) };
    let params = quantizer.params()?;
    let fits = match params.granularity() {
        Granularity::Tensor => true,
        Granularity::Channel(axis) => axis == out_axis,
        Granularity::Group { .. } => false,
    };
    if !fits {
        return Ok(Err("its scales lie along what is summed"));
    }
    let centred = centred(quantizer, &weight.effective()?.f_detach()?, &params)?;
    let rows = centred.f_movedim_int(out_axis as i64, 0)?.f_reshape([centred.size()[out_axis], -1])?;
    let (count, fan_in) = (rows.size()[0] as usize, rows.size()[1] as usize);
    let flat = to_i64s(&rows)?;
    let weights: Vec<Vec<i64>> = flat.chunks(fan_in.max(1)).map(<[i64]>::to_vec).collect();
    let bias = node.inputs.get(2).filter(|b| !b.is_empty());
    if bias.is_some_and(|name| !model.weights.contains_key(name)) {
        return Ok(Err("its bias is computed"));
    }
    let biases = match bias.and_then(|name| model.weights.get(name)) {
        Some(bias) => to_f32s(&bias.effective()?.f_detach()?)?,
        None => vec![],
    };
    let scale = input.scales()?[0];
    let Ok(biases) = integer_bias(&biases, count, scale, &params) else { return Ok(Err("its bias does not fit 32 bits")) };
    let zero = input.zero_points()?[0];
    let (low, high) = input.range();
    // Padding is zero, whatever the range.
    let input = ((low - zero).min(0), (high - zero).max(0));
    let units = (0..count).map(|c| f64::from(scale) * f64::from(params.scale(c))).collect();
    Ok(Ok(Integers { weights, biases: biases.into_iter().map(i64::from).collect(), input, units }))
}

/// Integers less their zero points.
fn centred(quantizer: &Quantizer, value: &Tensor, params: &QuantParams) -> Result<Tensor, CertifyError> {
    let integers = quantizer.quantize(value)?;
    if params.levels() != Levels::Unsigned && params.zero_points().iter().all(|z| *z == 0) {
        return Ok(integers);
    }
    let zeros = Tensor::f_from_slice(params.zero_points())?;
    let shape: Vec<i64> = match params.granularity() {
        Granularity::Channel(axis) => (0..value.dim()).map(|a| if a == axis { -1 } else { 1 }).collect(),
        _ => vec![1; value.dim()],
    };
    Ok(integers.f_sub(&zeros.f_reshape(shape)?)?.f_to_kind(Kind::Int64)?)
}

/// The ends of a channel's sum of products: the least and the greatest.
pub(crate) fn ends(weights: &[i64], (low, high): (i64, i64)) -> (i64, i64) {
    weights.iter().fold((0, 0), |(least, most), &w| (least + (w * low).min(w * high), most + (w * low).max(w * high)))
}
