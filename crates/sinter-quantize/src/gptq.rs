//! Second-order rounding (GPTQ; Frantar et al., 2023): column by column, later columns making up for the errors of earlier ones.

use rayon::prelude::*;
use sinter_model::{Grid, OpError, OpResult, WeightSlot, to_f32s};
use tch::{Kind, Tensor};

use crate::config::Format;
use crate::weights::weight_grid;

/// The mean of the Hessian's diagonal that is added to it, so that it can be inverted.
const DAMPING: f64 = 0.01;
/// Columns that are rounded before what comes after them hears of their errors.
const BLOCK: i64 = 128;

/// The grid of a weight `[rows, columns]` and its values rounded to it: scales of least error, weighted by how much each column matters,
/// then [`round`].
pub fn quantize(weight: &Tensor, hessian: &Tensor, format: Format) -> OpResult<(Grid, Tensor)> {
    let slot = WeightSlot { input: 1, bias: None, out_axis: 0, in_axis: 1 };
    let importance = hessian.f_diagonal(0, 0, 1)?.f_to_kind(Kind::Float)?.f_expand(weight.size(), false)?;
    let Some(grid) = weight_grid(slot, weight, format, false, Some(&importance))? else {
        return Err(OpError::Invalid(format!("{format} has no grid to round to")));
    };
    let scale = grid.scale_of_each(&weight.size())?;
    let rounded = round(weight, hessian, &scale, grid.range())?;
    Ok((grid, rounded))
}

/// Rounds a weight to its grid so that the layer's output changes least.
///
/// `weight` is `[rows, columns]`, `hessian` `X^T X` of what it multiplies, `[columns, columns]`; `scale` gives the scale of each element
/// and `range` the integers of its grid (zero point 0). Columns go in the order of falling diagonal. Returns values on the grid. Errors
/// when the Hessian can't be inverted at any damping.
pub fn round(weight: &Tensor, hessian: &Tensor, scale: &Tensor, range: (i64, i64)) -> OpResult<Tensor> {
    let (rows, columns) = weight.size2()?;
    let diagonal = hessian.f_diagonal(0, 0, 1)?;
    let order = diagonal.f_argsort(0, true)?;
    let back = order.f_argsort(0, false)?;
    let pick = |t: &Tensor| -> OpResult<Tensor> {
        Ok(t.f_to_kind(Kind::Float)?.f_expand([rows, columns], false)?.f_index_select(1, &order)?)
    };
    let (mut w, scale) = (pick(weight)?, pick(scale)?);
    let hessian = hessian.f_index_select(0, &order)?.f_index_select(1, &order)?;
    let factor = inverse_factor(&hessian)?;
    let mut parts = Vec::new();
    for start in (0..columns).step_by(BLOCK as usize) {
        let len = BLOCK.min(columns - start);
        let block = |t: &Tensor| -> OpResult<Vec<f32>> { to_f32s(&t.f_narrow(1, start, len)?) };
        let local = to_f32s(&factor.f_narrow(0, start, len)?.f_narrow(1, start, len)?)?;
        let (rounded, errors) = round_block(block(&w)?, &block(&scale)?, &local, len as usize, range);
        parts.push(Tensor::f_from_slice(&rounded)?.f_view([rows, len])?);
        let rest = columns - start - len;
        if rest > 0 {
            let errors = Tensor::f_from_slice(&errors)?.f_view([rows, len])?;
            let row = factor.f_narrow(0, start, len)?.f_narrow(1, start + len, rest)?;
            let mut later = w.f_narrow(1, start + len, rest)?;
            let _ = later.f_addmm_(&errors, &row.f_neg()?)?;
        }
    }
    w = Tensor::f_cat(&parts, 1)?;
    Ok(w.f_index_select(1, &back)?)
}

/// Rounds the columns of one block; every row on its own. Returns the rounded values and the errors, each divided by the factor's
/// diagonal.
fn round_block(mut w: Vec<f32>, scale: &[f32], factor: &[f32], len: usize, (low, high): (i64, i64)) -> (Vec<f32>, Vec<f32>) {
    let mut errors = vec![0f32; w.len()];
    w.par_chunks_mut(len).zip(errors.par_chunks_mut(len)).zip(scale.par_chunks(len)).for_each(|((w, errors), scale)| {
        for i in 0..len {
            let q = (w[i] / scale[i]).round_ties_even().clamp(low as f32, high as f32) * scale[i];
            let error = (w[i] - q) / factor[i * len + i];
            let row = &factor[i * len + i + 1..(i + 1) * len];
            w[i + 1..].iter_mut().zip(row).for_each(|(w, f)| *w -= error * f);
            w[i] = q;
            errors[i] = error;
        }
    });
    (w, errors)
}

/// The upper Cholesky factor of the inverse of a damped Hessian.
///
/// With J the reversal of order, `J H J = L L^T` gives `H = U U^T` for the upper `U = J L J`, and so `H^-1 = R^T R` for the upper
/// `R = U^-1`: one factorisation and one triangular inverse.
fn inverse_factor(hessian: &Tensor) -> OpResult<Tensor> {
    let n = hessian.size()[0];
    let mean = hessian.f_diagonal(0, 0, 1)?.f_mean(Kind::Float)?.f_double_value(&[])?.max(1e-12);
    // Single precision where it serves; columns that were never in use need the damping.
    for (kind, damping) in [(Kind::Float, DAMPING), (Kind::Double, DAMPING), (Kind::Double, 10.0 * DAMPING)] {
        let eye = Tensor::f_eye(n, (kind, tch::Device::Cpu))?;
        let damped = hessian.f_to_kind(kind)?.f_add(&eye.f_mul_scalar(damping * mean)?)?;
        let Ok(lower) = damped.f_flip([0, 1])?.f_linalg_cholesky(false) else { continue };
        let upper = lower.f_flip([0, 1])?;
        let factor = inverse_of_upper(&upper)?.f_to_kind(Kind::Float)?;
        if factor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0 {
            return Ok(factor);
        }
    }
    Err(OpError::Invalid("the Hessian of its inputs can't be inverted: are they finite?".into()))
}

/// The inverse of an upper triangular matrix, by halves, so that nearly all the work is matrix products.
fn inverse_of_upper(upper: &Tensor) -> OpResult<Tensor> {
    let n = upper.size()[0];
    if n <= 2 * BLOCK {
        let eye = Tensor::f_eye(n, (upper.kind(), upper.device()))?;
        return Ok(upper.f_linalg_solve_triangular(&eye, true, true, false)?);
    }
    let (first, rest) = (n / 2, n - n / 2);
    let rows = upper.f_narrow(0, 0, first)?;
    let above = inverse_of_upper(&rows.f_narrow(1, 0, first)?)?;
    let below = inverse_of_upper(&upper.f_narrow(0, first, rest)?.f_narrow(1, first, rest)?)?;
    let corner = above.f_matmul(&rows.f_narrow(1, first, rest)?)?.f_matmul(&below)?.f_neg()?;
    let out = upper.f_zeros_like()?;
    for (part, row, column) in [(&above, 0, 0), (&corner, 0, first), (&below, first, first)] {
        let (height, width) = part.size2()?;
        out.f_narrow(0, row, height)?.f_narrow(1, column, width)?.f_copy_(part)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triangular_inverse_is_one() {
        let upper = (Tensor::randn([700, 700], (Kind::Double, tch::Device::Cpu)) * 0.01).triu(0)
            + Tensor::eye(700, (Kind::Double, tch::Device::Cpu));
        let product = inverse_of_upper(&upper).unwrap().matmul(&upper);
        let off = product - Tensor::eye(700, (Kind::Double, tch::Device::Cpu));
        assert!(off.abs().max().double_value(&[]) < 1e-9);
    }

    fn error(w: &Tensor, q: &Tensor, hessian: &Tensor) -> f64 {
        let d = w - q;
        d.matmul(hessian).f_mul(&d).unwrap().sum(Kind::Double).double_value(&[])
    }

    #[test]
    fn the_output_changes_less_than_by_rounding_to_nearest() {
        tch::manual_seed(3);
        let opts = (Kind::Float, tch::Device::Cpu);
        // Inputs with strong correlations, and one that is never in use.
        let mixing = Tensor::randn([300, 300], opts);
        let x = Tensor::randn([1000, 300], opts).matmul(&mixing) * Tensor::randn([300], opts).exp();
        let _ = x.narrow(1, 17, 1).zero_();
        let hessian = x.tr().matmul(&x);
        let w = Tensor::randn([40, 300], opts);
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
        let w = Tensor::randn([5, 200], opts);
        let found = round(&w, &Tensor::eye(200, opts), &Tensor::full([1], 0.3f64, opts), (-7, 7)).unwrap();
        let nearest = (&w / 0.3f64).round().clamp(-7.0, 7.0) * 0.3f64;
        assert!((found - nearest).abs().max().double_value(&[]) < 1e-5);
    }
}
