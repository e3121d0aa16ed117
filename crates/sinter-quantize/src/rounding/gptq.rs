//! Second-order rounding (GPTQ; Frantar et al., 2023): column by column, later columns making up for the errors of earlier ones.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Layer, OpError, OpResult, Quantizer, WeightSlot, to_f32s};
use tch::{Kind, Tensor};

use super::RoundingMethod;
use crate::formats::Format;
use crate::weights::weight_params;

/// The mean of the Hessian's diagonal that is added to it, so that it can be inverted.
const DAMPING: f64 = 0.01;
/// Columns in a block.
const BLOCK: i64 = 128;

/// Column by column, later ones making up for the errors of earlier ones, in the order of how much they matter (GPTQ; Frantar et al., 2023). For
/// weights below 8 bits that are one matrix, too large for `learned`; others are rounded to nearest. Costs a Cholesky factor of each layer's
/// inputs squared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gptq {
    /// Whether each layer is rounded for what the rounded layers before it give, so that it makes up for some of their errors, and not for what the float model gives. Where weights
    /// alone are quantized. Default: true.
    #[serde(default = "yes")]
    pub sequential: bool,
    /// With `sequential`: whether each layer shall give what the float model's gives, although what it reads carries the errors of the layers before; its weight moves to where that is
    /// so before it is rounded (after GPTAQ; Li et al., 2025). Costs a run more. Default: true.
    #[serde(default = "yes")]
    pub float_target: bool,
}

fn yes() -> bool {
    true
}

impl Default for Gptq {
    fn default() -> Self {
        Self { sequential: yes(), float_target: yes() }
    }
}

impl RoundingMethod for Gptq {
    fn wants_columns(&self) -> bool {
        true
    }

    fn is_sequential(&self) -> bool {
        self.sequential
    }

    fn wants_float(&self) -> bool {
        self.sequential && self.float_target
    }

    fn round(&self, layer: &Layer, value: &Tensor, quantizer: &Quantizer, hessian: &Tensor) -> OpResult<Option<Tensor>> {
        let scale = quantizer.scale_of_each(&value.size())?.f_expand(value.size(), false)?;
        let (matrix, scale) = (layer.slot.matrix(value)?, layer.slot.matrix(&scale)?);
        let rounded = round(&matrix, hessian, &scale, quantizer.range())?;
        layer.slot.from_matrix(&rounded, &value.size()).map(Some)
    }
}

/// The weight `[rows, columns]` that gives on X what `weight` gives on F, by least squares: `hessian` is `X^T X`, `across` `X^T F`. The same damping that keeps the
/// Hessian's factor apart keeps it near `weight`.
pub(crate) fn toward(weight: &Tensor, hessian: &Tensor, across: &Tensor) -> OpResult<Tensor> {
    let hessian = hessian.f_to_kind(Kind::Double)?;
    let damping = DAMPING * hessian.f_diagonal(0, 0, 1)?.f_mean(Kind::Double)?.f_double_value(&[])?.max(1e-12);
    let damp = Tensor::f_eye(hessian.size()[0], (Kind::Double, tch::Device::Cpu))?.f_mul_scalar(damping)?;
    let aim = across.f_to_kind(Kind::Double)?.f_add(&damp)?.f_matmul(&weight.f_to_kind(Kind::Double)?.f_tr()?)?;
    let moved = aim.f_cholesky_solve(&hessian.f_add(&damp)?.f_linalg_cholesky(false)?, false)?;
    Ok(moved.f_tr()?.f_to_kind(Kind::Float)?.f_contiguous()?)
}

/// The quantizer of a weight `[rows, columns]` and its values rounded to it: scales of least error, weighted by how much each column matters,
/// then [`round`].
pub fn quantize(weight: &Tensor, hessian: &Tensor, format: Format) -> OpResult<(Quantizer, Tensor)> {
    let slot = WeightSlot { input: 1, bias: None, out_axis: 0, in_axis: 1 };
    let importance = hessian.f_diagonal(0, 0, 1)?.f_to_kind(Kind::Float)?.f_expand(weight.size(), false)?;
    let Some(params) = weight_params(slot, weight, format, false, Some(&importance))? else {
        return Err(OpError::Invalid(format!("{format} has no integers to round to")));
    };
    let quantizer = Quantizer::new(&params)?;
    let scale = quantizer.scale_of_each(&weight.size())?;
    let rounded = round(weight, hessian, &scale, quantizer.range())?;
    Ok((quantizer, rounded))
}

/// Rounds a weight to its quantizer so that the layer's output changes least.
///
/// `weight` is `[rows, columns]`, `hessian` `X^T X` of what it multiplies, `[columns, columns]`; `scale` gives the scale of each element
/// and `range` the integers of its quantizer (zero point 0). Columns go in the order of falling diagonal. Returns values on the quantizer. Errors
/// when the Hessian has no Cholesky factor at any damping.
///
/// With `H = U U^T` for an upper `U`, errors E of the weight cost `|E U|^2`, whose column j is `E_j U_jj` plus what the columns before it
/// add. Each column is rounded so that its own is least: Babai's nearest plane (1986), which gives what GPTQ gives (Chen et al., 2025) and
/// needs no inverse.
pub fn round(weight: &Tensor, hessian: &Tensor, scale: &Tensor, range: (i64, i64)) -> OpResult<Tensor> {
    let (rows, columns) = weight.size2()?;
    let order = hessian.f_diagonal(0, 0, 1)?.f_argsort(0, true)?;
    let back = order.f_argsort(0, false)?;
    let pick = |t: &Tensor| -> OpResult<Tensor> {
        Ok(t.f_to_kind(Kind::Float)?.f_expand([rows, columns], false)?.f_index_select(1, &order)?)
    };
    let aims = pick(weight)?;
    let (weight, scale) = (to_f32s(&aims)?, to_f32s(&pick(scale)?)?);
    let factor = upper_factor(&hessian.f_index_select(0, &order)?.f_index_select(1, &order)?)?;
    let mut rounded = vec![0f32; weight.len()];
    for start in (0..columns).step_by(BLOCK as usize) {
        let len = BLOCK.min(columns - start);
        let local = to_f32s(&factor.f_narrow(0, start, len)?.f_narrow(1, start, len)?)?;
        let aim = to_f32s(&aims.f_narrow(1, start, len)?)?;
        let block = Block { start: start as usize, len: len as usize, columns: columns as usize, factor: &local, range };
        let errors = block.round(aim, &weight, &scale, &mut rounded);
        let rest = columns - start - len;
        if rest > 0 {
            let errors = Tensor::f_from_slice(&errors)?.f_view([rows, len])?;
            let row = factor.f_narrow(0, start, len)?.f_narrow(1, start + len, rest)?;
            let _ = aims.f_narrow(1, start + len, rest)?.f_addmm_(&errors, &row)?;
        }
    }
    Ok(Tensor::f_from_slice(&rounded)?.f_view([rows, columns])?.f_index_select(1, &back)?)
}

/// Neighbouring columns that are rounded before what comes after them hears of their errors.
struct Block<'a> {
    start: usize,
    len: usize,
    /// Of the whole weight.
    columns: usize,
    /// The factor of these columns, `[len, len]`.
    factor: &'a [f32],
    range: (i64, i64),
}

impl Block<'_> {
    /// Rounds the columns, every row on its own. `aim` is the weight with what earlier columns add, `[rows, len]`; `weight`, `scale` and
    /// `rounded` are whole. Returns the errors, `[rows, len]`.
    fn round(&self, mut aim: Vec<f32>, weight: &[f32], scale: &[f32], rounded: &mut [f32]) -> Vec<f32> {
        let len = self.len;
        let (low, high) = (self.range.0 as f32, self.range.1 as f32);
        let mut errors = vec![0f32; aim.len()];
        let rows = aim.par_chunks_mut(len).zip(errors.par_chunks_mut(len)).zip(rounded.par_chunks_mut(self.columns));
        rows.enumerate().for_each(|(r, ((aim, errors), rounded))| {
            let here = r * self.columns + self.start..r * self.columns + self.start + len;
            let (weight, scale) = (&weight[here.clone()], &scale[here]);
            let rounded = &mut rounded[self.start..self.start + len];
            for i in 0..len {
                let q = (aim[i] / scale[i]).round_ties_even().clamp(low, high) * scale[i];
                let error = weight[i] - q;
                let row = &self.factor[i * len + i + 1..(i + 1) * len];
                aim[i + 1..].iter_mut().zip(row).for_each(|(aim, f)| *aim += error * f);
                (rounded[i], errors[i]) = (q, error);
            }
        });
        errors
    }
}

/// The upper factor `U` of a damped Hessian `U U^T`, each column divided by its diagonal element.
///
/// With J the reversal of order, `J H J = L L^T` gives `U = J L J`.
fn upper_factor(hessian: &Tensor) -> OpResult<Tensor> {
    let n = hessian.size()[0];
    let mean = hessian.f_diagonal(0, 0, 1)?.f_mean(Kind::Float)?.f_double_value(&[])?.max(1e-12);
    // Single precision where it serves; columns that were never in use need the damping.
    for (kind, damping) in [(Kind::Float, DAMPING), (Kind::Double, DAMPING), (Kind::Double, 10.0 * DAMPING)] {
        let eye = Tensor::f_eye(n, (kind, tch::Device::Cpu))?;
        let damped = hessian.f_to_kind(kind)?.f_add(&eye.f_mul_scalar(damping * mean)?)?;
        let Ok(lower) = damped.f_flip([0, 1])?.f_linalg_cholesky(false) else { continue };
        let upper = lower.f_flip([0, 1])?;
        let factor = upper.f_div(&upper.f_diagonal(0, 0, 1)?)?.f_to_kind(Kind::Float)?;
        if factor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0 {
            return Ok(factor);
        }
    }
    Err(OpError::Invalid("the Hessian of its inputs has no Cholesky factor: are they finite?".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal<const N: usize>(seed: u64, shapes: [&[i64]; N]) -> [Tensor; N] {
        sinter_model::seeded(seed, |random| shapes.map(|shape| random.normal(shape).unwrap()))
    }

    /// Against the method as published: the inverse Hessian's factor, column by column, in double precision.
    #[test]
    fn it_rounds_as_gptq_does() {
        let opts = (Kind::Double, tch::Device::Cpu);
        let [x, mixing, w] = normal(5, [&[400, 150], &[150, 150], &[6, 150]]).map(|t| t.to_kind(Kind::Double));
        let x = x.matmul(&mixing);
        let hessian = x.tr().matmul(&x);
        let order = hessian.diagonal(0, 0, 1).argsort(0, true);
        let damped =
            &hessian + Tensor::eye(150, opts) * (DAMPING * hessian.diagonal(0, 0, 1).mean(Kind::Double).double_value(&[]));
        let damped = damped.index_select(0, &order).index_select(1, &order);
        let factor = damped.inverse().f_linalg_cholesky(true).unwrap();
        let mut later = w.index_select(1, &order);
        let expected = later.zeros_like();
        for i in 0..150 {
            let column = later.narrow(1, i, 1);
            let q = (&column / 0.3f64).round().clamp(-7.0, 7.0) * 0.3f64;
            let error = (&column - &q) / factor.double_value(&[i, i]);
            expected.narrow(1, i, 1).copy_(&q);
            later = &later - error.matmul(&factor.narrow(0, i, 1));
        }
        let expected = expected.index_select(1, &order.argsort(0, false));
        let found = round(&w, &hessian, &Tensor::full([1], 0.3f64, opts), (-7, 7)).unwrap();
        let differing = (found - expected).abs().gt(0.01).sum(Kind::Int64).int64_value(&[]);
        // Single precision may tip a value that lies half way.
        assert!(differing < 10, "{differing} of 900 differ");
    }

    /// Rows that errors have turned: the moved weight gives on them what the weight gave before, as far as they allow it.
    #[test]
    fn a_weight_moves_to_where_it_gives_the_same() {
        let opts = (Kind::Float, tch::Device::Cpu);
        let [float, turn, w] = normal(7, [&[500, 20], &[20, 20], &[6, 20]]);
        let turned = float.matmul(&(Tensor::eye(20, opts) + turn * 0.05));
        let moved = toward(&w, &turned.tr().matmul(&turned), &turned.tr().matmul(&float)).unwrap();
        let off = |v: &Tensor| (turned.matmul(&v.tr()) - float.matmul(&w.tr())).square().mean(Kind::Double).double_value(&[]);
        assert!(off(&moved) < 0.01 * off(&w), "{} {}", off(&moved), off(&w));
        // Where nothing has turned nothing moves.
        let still = toward(&w, &float.tr().matmul(&float), &float.tr().matmul(&float)).unwrap();
        assert!((still - &w).abs().max().double_value(&[]) < 1e-5);
    }

    fn error(w: &Tensor, q: &Tensor, hessian: &Tensor) -> f64 {
        let d = w - q;
        d.matmul(hessian).f_mul(&d).unwrap().sum(Kind::Double).double_value(&[])
    }

    #[test]
    fn the_output_changes_less_than_by_rounding_to_nearest() {
        let opts = (Kind::Float, tch::Device::Cpu);
        // Inputs with strong correlations, and one that is never in use.
        let [mixing, x, loud, w] = normal(3, [&[300, 300], &[1000, 300], &[300], &[40, 300]]);
        let x = x.matmul(&mixing) * loud.exp();
        let _ = x.narrow(1, 17, 1).zero_();
        let hessian = x.tr().matmul(&x);
        let scale = Tensor::full([40, 1], 0.4f64, opts);
        let nearest = (&w / 0.4f64).round().clamp(-7.0, 7.0) * 0.4f64;
        let found = round(&w, &hessian, &scale, (-7, 7)).unwrap();
        let (ours, theirs) = (error(&w, &found, &hessian), error(&w, &nearest, &hessian));
        assert!(ours < 0.5 * theirs, "{ours} {theirs}");
        let steps = &found / 0.4f64;
        assert!((&steps - steps.round()).abs().max().double_value(&[]) < 1e-3);
        assert!(steps.abs().max().double_value(&[]) <= 7.001);
    }

    #[test]
    fn with_unrelated_inputs_it_is_rounding_to_nearest() {
        let opts = (Kind::Float, tch::Device::Cpu);
        let [w] = normal(1, [&[5, 200]]);
        let found = round(&w, &Tensor::eye(200, opts), &Tensor::full([1], 0.3f64, opts), (-7, 7)).unwrap();
        let nearest = (&w / 0.3f64).round().clamp(-7.0, 7.0) * 0.3f64;
        assert!((found - nearest).abs().max().double_value(&[]) < 1e-5);
    }
}
