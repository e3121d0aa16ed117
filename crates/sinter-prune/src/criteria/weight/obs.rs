//! Second-order one-shot pruning: the weights that stay make up for those that go.
//!
//! Two masks are tried: that of the column-by-column sweep of Frantar and Alistarh (SparseGPT, 2023), and that of magnitudes times input
//! norms (Sun et al., Wanda, 2023). For each, the kept weights are fitted to the layer's outputs by least squares; the better one stays.

use std::num::NonZeroUsize;

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::products;
use sinter_data::Split;
use sinter_model::{Layer, Mask, Model, NmPattern, OpError, OpResult};
use sinter_train::{Context, StageError};
use tch::{Kind, TchError, Tensor};

use super::Criterion;
use crate::criteria::{Needs, Samples};
use crate::mask::{keep_largest, keep_nm};
use crate::target::Target;

/// Columns whose masks are chosen together.
const BLOCK: i64 = 128;
/// Added to the Hessian's diagonal, as a share of its mean.
const DAMPING: f64 = 0.01;
/// Steps of conjugate gradients that fit the kept weights.
const FIT_STEPS: usize = 24;

/// The error that the weight's removal leaves when the other weights of its row make up for it, which they then do (Hassibi and Stork, Optimal
/// Brain Surgeon, 1993; Frantar and Alistarh, SparseGPT, 2023). The best without fine-tuning. One shot, per layer; costs a Cholesky factor of
/// each layer's inputs squared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Obs {
    /// Training samples that the Hessians come from. Default: 1024.
    pub samples: Samples,
}

impl Default for Obs {
    fn default() -> Self {
        const { Self { samples: Samples::new(NonZeroUsize::new(1024).unwrap()) } }
    }
}

impl Criterion for Obs {
    fn needs(&self) -> Needs {
        Needs::Samples
    }

    fn score(&self, value: &Tensor, _seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        // Where only scores are asked (a sensitivity scan) the second order would take long: magnitude finds the same layers.
        value.f_abs()
    }

    fn prunes_by_itself(&self) -> bool {
        true
    }

    fn prune(&self, model: &mut Model, targets: &[(Layer, Target)], context: &Context) -> Option<Result<(), StageError>> {
        Some(prune(model, targets, &self.samples.draw(context), context))
    }
}

/// Prunes each layer to its target and updates its kept weights. Layers whose weight is not one matrix are pruned by magnitude.
fn prune(model: &mut Model, targets: &[(Layer, Target)], samples: &Split, context: &Context) -> Result<(), StageError> {
    let weights = targets.iter().map(|(l, _)| l.weight.clone()).collect();
    let hessians = products(model, &weights, false, samples, &context.reporter())?;
    for (layer, target) in context.each("second-order pruning", targets) {
        let at = StageError::weight(&layer.weight);
        let weight = model.weight_mut(&layer.weight)?;
        let value = weight.effective().map_err(&at)?.f_detach()?;
        let (pattern, old) = (target.pattern(), weight.mask().map(|m| m.keep().shallow_clone()));
        let (keep, value) = match hessians.get(&layer.weight) {
            Some(hessian) => surgeon(layer, &value, hessian, *target, old.as_ref()).map_err(&at)?,
            None => {
                context.note(format!("{}: not one matrix, pruned by magnitude", layer.name));
                let score = value.f_abs()?;
                let keep = match target {
                    Target::Sparsity(s) => keep_largest(&score, (value.numel() as f64 * s).round() as usize).map_err(&at)?,
                    Target::Pattern(p) => keep_nm(&score, *p).map_err(&at)?,
                };
                (keep, value)
            }
        };
        // A codebook or quantizer keeps its values: then only the mask is second-order.
        if weight.codebook().is_none() {
            weight.set_latent(value).map_err(&at)?;
        }
        weight.prune(Mask::new(&keep, pattern).map_err(&at)?).map_err(&at)?;
    }
    Ok(())
}

/// The mask and the fitted weight, of the weight's shape. `hessian` is `X^T X` of the layer's inputs, `[fan-in, fan-in]`.
fn surgeon(layer: &Layer, value: &Tensor, hessian: &Tensor, target: Target, old: Option<&Tensor>) -> OpResult<(Tensor, Tensor)> {
    let slot = layer.slot;
    let w = slot.matrix(value)?.f_to_kind(Kind::Double)?;
    let gone = old.map(|m| Ok::<_, OpError>(slot.matrix(m)?.f_eq(0)?)).transpose()?;
    let fan_in = w.size()[1];
    let mean = hessian.f_diagonal(0, 0, 1)?.f_mean(Kind::Double)?.f_double_value(&[])?.max(1e-12);
    let damped = hessian.f_add(&Tensor::f_eye(fan_in, (Kind::Double, tch::Device::Cpu))?.f_mul_scalar(DAMPING * mean)?)?;
    let (swept, start) = sweep(layer, value, &w, &damped, target, gone.as_ref())?;
    let normed = by_input_norm(layer, value, &w, hessian, target, gone.as_ref())?;
    let mut best: Option<(f64, Tensor, Tensor)> = None;
    for (keep, start) in [(swept, start), (normed.shallow_clone(), w.f_mul(&normed)?)] {
        let fitted = fit_kept(&w, &start, &keep, &damped)?;
        let rest = w.f_sub(&fitted)?;
        let error = rest.f_matmul(&damped)?.f_mul(&rest)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        if best.as_ref().is_none_or(|b| error < b.0) {
            best = Some((error, keep, fitted));
        }
    }
    let Some((_, keep, fitted)) = best else { return Err(OpError::Invalid("no mask was found".into())) };
    let fitted = fitted.f_to_kind(Kind::Float)?;
    Ok((slot.from_matrix(&keep, &value.size())?, slot.from_matrix(&fitted, &value.size())?))
}

/// The mask of the largest magnitudes times input norms, as a matrix.
fn by_input_norm(
    layer: &Layer,
    value: &Tensor,
    w: &Tensor,
    hessian: &Tensor,
    target: Target,
    gone: Option<&Tensor>,
) -> OpResult<Tensor> {
    let norms = hessian.f_diagonal(0, 0, 1)?.f_clamp_min(0.0)?.f_sqrt()?;
    let scores = w.f_abs()?.f_mul(&norms)?.f_to_kind(Kind::Float)?;
    let scores = gone.map_or(Ok(scores.shallow_clone()), |g| scores.f_masked_fill(g, f64::NEG_INFINITY))?;
    let keep = match target {
        Target::Sparsity(s) => keep_largest(&scores, (w.numel() as f64 * s).round() as usize)?,
        Target::Pattern(p) => layer.slot.matrix(&keep_nm(&layer.slot.from_matrix(&scores, &value.size())?, p)?)?,
    };
    Ok(keep.f_to_kind(Kind::Double)?)
}

/// The weights within a mask whose outputs come nearest to those of `w`: least squares by conjugate gradients, all rows at once.
fn fit_kept(w: &Tensor, start: &Tensor, keep: &Tensor, hessian: &Tensor) -> OpResult<Tensor> {
    let rows = |t: &Tensor| t.f_sum_dim_intlist(1, true, Kind::Double);
    let mut x = start.f_mul(keep)?;
    let mut residual = w.f_sub(&x)?.f_matmul(hessian)?.f_mul(keep)?;
    let mut direction = residual.shallow_clone();
    let mut square = rows(&residual.f_square()?)?;
    for _ in 0..FIT_STEPS {
        let image = direction.f_matmul(hessian)?.f_mul(keep)?;
        let step = square.f_div(&rows(&direction.f_mul(&image)?)?.f_add_scalar(1e-30)?)?;
        x = x.f_add(&direction.f_mul(&step)?)?;
        residual = residual.f_sub(&image.f_mul(&step)?)?;
        let next = rows(&residual.f_square()?)?;
        direction = residual.f_add(&direction.f_mul(&next.f_div(&square.f_add_scalar(1e-30)?)?)?)?;
        square = next;
    }
    Ok(x)
}

/// The column-by-column sweep: the mask, and the weights after it, both as matrices.
fn sweep(
    layer: &Layer,
    value: &Tensor,
    w: &Tensor,
    damped: &Tensor,
    target: Target,
    gone: Option<&Tensor>,
) -> OpResult<(Tensor, Tensor)> {
    let mut w = w.copy();
    let fan_in = w.size()[1];
    // The upper Cholesky factor of the inverse holds the inverses of all trailing submatrices.
    let inverse = damped.f_linalg_cholesky(false)?.f_cholesky_inverse(false)?;
    let factor = inverse.f_linalg_cholesky(true)?;
    let keep = w.f_ones_like()?;
    let run = target.pattern().map(|p| run_of(layer, value, p));
    for start in (0..fan_in).step_by(BLOCK as usize) {
        let len = BLOCK.min(fan_in - start);
        let diagonal = factor.f_diagonal(0, 0, 1)?.f_narrow(0, start, len)?;
        // The error that each weight of some columns leaves when it goes, as float32 for the selection.
        let score = |w: &Tensor, columns: &Tensor| -> OpResult<Tensor> {
            let d = factor.f_diagonal(0, 0, 1)?.f_index_select(0, columns)?;
            let s = w.f_index_select(1, columns)?.f_div(&d)?.f_square()?.f_to_kind(Kind::Float)?;
            Ok(match gone {
                Some(gone) => s.f_masked_fill(&gone.f_index_select(1, columns)?, f64::NEG_INFINITY)?,
                None => s,
            })
        };
        if let Target::Sparsity(sparsity) = target {
            // Rounding is carried along, so that the whole comes out exact.
            let rows = w.size()[0] as f64;
            let due = |columns: i64| (rows * columns as f64 * sparsity).round() as usize;
            let columns = Tensor::f_arange_start(start, start + len, (Kind::Int64, tch::Device::Cpu))?;
            let part = keep_largest(&score(&w, &columns)?, due(start + len) - due(start))?;
            keep.f_narrow(1, start, len)?.f_copy_(&part)?;
        }
        let errors = w.f_narrow(1, start, len)?.f_zeros_like()?;
        for i in 0..len {
            let column = start + i;
            if let (Target::Pattern(p), Some(run)) = (target, &run)
                && let Some((first, stride)) = run(column)
            {
                // At its first column a run is chosen from what its weights have become.
                let members: Vec<i64> = (0..p.m as i64).map(|j| first + j * stride).filter(|&c| c < fan_in).collect();
                let index = Tensor::from_slice(&members);
                let part = keep_nm(&score(&w, &index)?, NmPattern { axis: 1, ..p })?.f_to_kind(Kind::Double)?;
                let _ = keep.shallow_clone().f_index_copy_(1, &index, &part)?;
            }
            let now = w.f_select(1, column)?;
            let kept = now.f_mul(&keep.f_select(1, column)?)?;
            let error = now.f_sub(&kept)?.f_div(&diagonal.f_select(0, i)?)?;
            w.f_select(1, column)?.f_copy_(&kept)?;
            if i + 1 < len {
                let row = factor.f_select(0, column)?.f_narrow(0, column + 1, len - i - 1)?;
                let rest = w.f_narrow(1, column + 1, len - i - 1)?;
                let _ = rest.shallow_clone().f_sub_(&error.f_outer(&row)?)?;
            }
            errors.f_select(1, i)?.f_copy_(&error)?;
        }
        let after = fan_in - start - len;
        if after > 0 {
            let rows = factor.f_narrow(0, start, len)?.f_narrow(1, start + len, after)?;
            w = w.f_contiguous()?;
            let _ = w.f_narrow(1, start + len, after)?.f_sub_(&errors.f_matmul(&rows)?)?;
        }
    }
    let w = w.f_mul(&keep)?;
    Ok((keep, w))
}

/// For a column of the matrix that begins a run of the pattern: the run's first column and the distance between its columns. Input
/// channels of a convolution lie a whole kernel apart.
fn run_of(layer: &Layer, value: &Tensor, p: NmPattern) -> impl Fn(i64) -> Option<(i64, i64)> {
    let size = value.size();
    let stride: i64 = if size.len() > 2 { size[layer.slot.in_axis + 1..].iter().product() } else { 1 };
    move |column| ((column / stride) % p.m as i64 == 0).then_some((column, stride))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::{Role, Weight, WeightSlot, seeded, to_f32s};

    fn setting(seed: u64) -> (Layer, Tensor, Tensor) {
        let (mix, x, w) = seeded(seed, |random| {
            let mut normal = |shape: [i64; 2]| random.normal(&shape).unwrap();
            (normal([24, 24]).to_kind(Kind::Double), normal([400, 24]).to_kind(Kind::Double), normal([10, 24]))
        });
        let x = x.matmul(&mix);
        let slot = WeightSlot { input: 1, bias: None, out_axis: 0, in_axis: 1 };
        (Layer { node: 0, name: "fc".into(), weight: "w".into(), bias: None, slot }, x, w)
    }

    fn output_error(x: &Tensor, w: &Tensor, pruned: &Tensor) -> f64 {
        let difference = (w - pruned).to_kind(Kind::Double);
        x.matmul(&difference.tr()).square().mean(Kind::Double).double_value(&[])
    }

    #[test]
    fn what_stays_makes_up_for_what_goes() {
        for seed in 0..4 {
            let (layer, x, w) = setting(seed);
            let hessian = x.tr().matmul(&x);
            for target in [Target::Sparsity(0.5), Target::Pattern(NmPattern { n: 2, m: 4, axis: 1 })] {
                let (keep, pruned) = surgeon(&layer, &w, &hessian, target, None).unwrap();
                let plain = match target {
                    Target::Sparsity(_) => keep_largest(&w.abs(), 120).unwrap(),
                    Target::Pattern(p) => keep_nm(&w.abs(), p).unwrap(),
                };
                let (ours, magnitude) = (output_error(&x, &w, &pruned), output_error(&x, &w, &(&w * plain)));
                assert!(ours < 0.6 * magnitude, "{target:?}: {ours} against {magnitude} by magnitude");
                let mask = Mask::new(&keep, target.pattern()).unwrap();
                assert_eq!(mask.broken(&pruned).unwrap(), None);
                assert_eq!(to_f32s(&keep).unwrap().iter().sum::<f32>(), 120.0);
            }
        }
    }

    #[test]
    fn a_convolution_keeps_its_pattern_along_the_input_channels() {
        let (w, x) = seeded(1, |random| (random.normal(&[6, 8, 3, 3]).unwrap(), random.normal(&[200, 72]).unwrap()));
        let x = x.to_kind(Kind::Double);
        let slot = WeightSlot { input: 1, bias: None, out_axis: 0, in_axis: 1 };
        let layer = Layer { node: 0, name: "conv".into(), weight: "w".into(), bias: None, slot };
        let p = NmPattern { n: 1, m: 4, axis: 1 };
        let (keep, pruned) = surgeon(&layer, &w, &x.tr().matmul(&x), Target::Pattern(p), None).unwrap();
        let mut weight = Weight::new(Role::Parameter, pruned);
        weight.prune(Mask::new(&keep, Some(p)).unwrap()).unwrap();
        assert_eq!(weight.check().unwrap(), None);
        assert_eq!(weight.sparsity().unwrap(), 0.75);
    }
}
