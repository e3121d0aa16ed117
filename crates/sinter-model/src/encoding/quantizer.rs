//! The quantizer: rounds a tensor to the integers of its parameters and back, differentiable in the tensor and in the scales.

use tch::{Kind, Tensor};

use super::params::{Granularity, Levels, QuantParams};
use crate::error::{OpResult, invalid};
use crate::tensor::{to_f32s, to_i64s};

/// [`QuantParams`] at work on tensors of libtorch, with scales that gradients may train.
#[derive(Debug)]
pub struct Quantizer {
    bits: u8,
    levels: Levels,
    granularity: Granularity,
    /// float32, flat: one, one a channel, or one a group in the order of the weight.
    scale: Tensor,
    /// int32, same shape.
    zero_point: Tensor,
    /// Whether gradients train the scales: then `scale` holds their base-2 logarithms, so that a step is a ratio (Jain et al., 2020).
    learned: bool,
}

impl Quantizer {
    /// A quantizer with these parameters.
    pub fn new(params: &QuantParams) -> OpResult<Self> {
        Ok(Self {
            bits: params.bits(),
            levels: params.levels(),
            granularity: params.granularity(),
            scale: Tensor::f_from_slice(params.scales())?,
            zero_point: Tensor::f_from_slice(params.zero_points())?.f_to_kind(Kind::Int)?,
            learned: false,
        })
    }

    /// Its parameters as they are now.
    pub fn params(&self) -> OpResult<QuantParams> {
        QuantParams::new(self.bits, self.levels, self.granularity, self.scales()?, self.zero_points()?)
    }

    /// The width of the integers.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Which integers are in use.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// The type of a byte that holds its integers, of up to eight bits.
    pub fn byte(&self) -> Kind {
        if self.levels() == Levels::Unsigned { Kind::Uint8 } else { Kind::Int8 }
    }

    /// How many elements share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The scales.
    pub fn scales(&self) -> OpResult<Vec<f32>> {
        to_f32s(&self.factors()?)
    }

    /// The zero points.
    pub fn zero_points(&self) -> OpResult<Vec<i64>> {
        to_i64s(&self.zero_point)
    }

    /// The smallest and the largest integer in use.
    pub fn range(&self) -> (i64, i64) {
        self.levels.range(self.bits)
    }

    /// Rounds to the quantizer and back. The gradient passes straight through inside the range (Jacob et al., 2018) and, where scales are
    /// learned, reaches them too: the rounding error inside, the end of the range outside (learned step size; Esser et al., 2020).
    pub fn apply(&self, x: &Tensor) -> OpResult<Tensor> {
        self.check_shape(&x.size())?;
        let factors = self.factors()?;
        // The paper's factor: a scale hears from all its elements at once.
        let each = (x.numel() / factors.numel().max(1)).max(1) as f64;
        let share = 1.0 / (each * self.range().1.max(1) as f64).sqrt();
        let scale = self.spread(&scaled_gradient(&factors, share)?, &x.size())?;
        if self.levels == Levels::Binary {
            return sign(x, &scale);
        }
        let fixed = scale.f_detach()?;
        // Rounded before the zero point joins, as runtimes do.
        let mut ratio = x.f_detach()?.f_div(&fixed)?;
        if !x.requires_grad() && !scale.requires_grad() {
            return Ok(self.clip(&ratio.f_round_()?)?.f_mul_(&fixed)?);
        }
        // Infinities, as masks of attention add, would leave no zero when multiplied by one.
        let x = if self.learned { x.shallow_clone() } else { x.f_clamp(f32::MIN as f64, f32::MAX as f64)? };
        // libtorch's own operators for this take several times as long as these passes.
        let mut clipped = self.clip(&ratio)?;
        let inside = clipped.f_eq_tensor(&ratio)?.f_to_kind(Kind::Float)?;
        let within = clipped.f_mul(&inside)?;
        let rest = clipped.f_round_()?.f_sub_(&within)?;
        Ok(x.f_mul(&inside)?.f_addcmul(&rest, &scale)?)
    }

    /// Brings values in steps of the scale into the range.
    fn clip(&self, ratio: &Tensor) -> OpResult<Tensor> {
        let (low, high) = self.range();
        let zeros = self.zero_points()?;
        if let Some(zero) = zeros.first().filter(|first| zeros.iter().all(|z| z == *first)) {
            return Ok(ratio.f_clamp((low - zero) as f64, (high - zero) as f64)?);
        }
        let zero = self.spread(&self.zero_point.f_to_kind(Kind::Float)?, &ratio.size())?;
        let end = |end: i64| zero.f_neg()?.f_add_scalar(end as f64);
        Ok(ratio.f_clamp_tensor(Some(&end(low)?), Some(&end(high)?))?)
    }

    /// Errors when the scales are not those of a tensor of this shape.
    fn check_shape(&self, shape: &[i64]) -> OpResult<()> {
        let wanted = self.granularity.scales(shape);
        match wanted == Some(self.scale.numel() as i64) {
            true => Ok(()),
            false => {
                invalid!("a quantizer of {} scales, {:?}, does not fit shape {shape:?}", self.scale.numel(), self.granularity)
            }
        }
    }

    /// Scales or zero points shaped so that they broadcast over a tensor of this shape.
    fn spread(&self, values: &Tensor, shape: &[i64]) -> OpResult<Tensor> {
        let mut broad = vec![1; shape.len()];
        match self.granularity {
            Granularity::Tensor => {}
            Granularity::Channel(axis) => broad[axis] = values.numel() as i64,
            Granularity::Group { axis, size } => {
                let runs = values.f_reshape(self.granularity.blocks(shape))?;
                let size = (size as i64).min(shape[axis].max(1));
                let wide = runs.f_repeat_interleave_self_int(size, axis as i64, None)?;
                return Ok(wide.f_narrow(axis as i64, 0, shape[axis])?);
            }
        }
        Ok(values.f_reshape(broad)?)
    }

    /// The scale of every element of a tensor of this shape: float32, broadcastable to it.
    pub fn scale_of_each(&self, shape: &[i64]) -> OpResult<Tensor> {
        self.check_shape(shape)?;
        self.spread(&self.factors()?.f_detach()?, shape)
    }

    /// The scales, whether they are learned or not.
    fn factors(&self) -> OpResult<Tensor> {
        if self.learned { Ok(self.scale.f_exp2()?) } else { Ok(self.scale.shallow_clone()) }
    }

    /// What gradients train, while scales are learned: their base-2 logarithms, float32 and flat.
    pub fn leaf(&self) -> Option<&Tensor> {
        self.learned.then_some(&self.scale)
    }

    /// Replaces what gradients train (same shape). Without effect on a quantizer whose scales are not learned.
    pub fn set_leaf(&mut self, leaf: Tensor) -> OpResult<()> {
        if leaf.size() != self.scale.size() {
            invalid!("scales {:?} can't replace {:?}", leaf.size(), self.scale.size());
        }
        if self.learned {
            self.scale = leaf;
        }
        Ok(())
    }

    /// Lets gradients train the scales from now on.
    pub fn learn(&mut self) -> OpResult<()> {
        if !self.learned {
            self.scale = self.scale.f_log2()?;
            self.learned = true;
        }
        Ok(())
    }

    /// Multiplies each scale by a factor (float32, one a scale). Errors on one that is not positive.
    pub fn rescale(&mut self, factors: &Tensor) -> OpResult<()> {
        if factors.size() != self.scale.size() || !to_f32s(factors)?.into_iter().all(|f| f.is_finite() && f > 0.0) {
            invalid!("scales {:?} can't be multiplied by {factors:?}: factors are positive, one a scale", self.scale.size());
        }
        self.scale = match self.learned {
            true => self.scale.f_detach()?.f_add(&factors.f_log2()?)?,
            false => self.scale.f_mul(factors)?,
        };
        Ok(())
    }

    /// Ends the learning of scales, and takes each to the nearest that 16 bits hold.
    pub fn settle(&mut self) -> OpResult<()> {
        let scales: Vec<f32> = self.scales()?.into_iter().map(QuantParams::nearest_storable).collect();
        *self = Self::new(&QuantParams::new(self.bits, self.levels, self.granularity, scales, self.zero_points()?)?)?;
        Ok(())
    }

    /// The integers of a tensor, int64, same shape.
    pub fn quantize(&self, x: &Tensor) -> OpResult<Tensor> {
        let (low, high) = self.range();
        let scale = self.scale_of_each(&x.size())?.f_to_kind(Kind::Double)?;
        if self.levels == Levels::Binary {
            return Ok(x.f_detach()?.f_ge(0)?.f_to_kind(Kind::Int64)?.f_mul_scalar(2)?.f_sub_scalar(1)?);
        }
        let zero = self.spread(&self.zero_point, &x.size())?;
        let q = x.f_detach()?.f_to_kind(Kind::Double)?.f_div(&scale)?.f_round()?.f_add(&zero)?;
        Ok(q.f_clamp(low as f64, high as f64)?.f_to_kind(Kind::Int64)?)
    }

    /// The float32 values of integers: `(q - zero_point) * scale`.
    pub fn dequantize(&self, q: &Tensor) -> OpResult<Tensor> {
        let scale = self.scale_of_each(&q.size())?;
        let zero = self.spread(&self.zero_point, &q.size())?;
        Ok(q.f_sub(&zero)?.f_to_kind(Kind::Float)?.f_mul(&scale)?)
    }

    /// What breaks the invariant in `effective`: a value that is not on the quantizer.
    pub fn broken(&self, effective: &Tensor) -> OpResult<Option<String>> {
        let effective = effective.f_detach()?;
        let back = self.dequantize(&self.quantize(&effective)?)?;
        let tolerance = self.scale_of_each(&effective.size())?.f_mul_scalar(1e-3)?;
        let slack = effective.f_abs()?.f_mul_scalar(1e-5)?;
        let off = back.f_sub(&effective)?.f_abs()?.f_gt_tensor(&tolerance.f_add(&slack)?)?;
        let count = off.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok((count > 0).then(|| format!("{count} values are off the {}-bit quantizer", self.bits)))
    }

    /// The quantizer of the slices `keep` along `axis`.
    pub fn select(&self, axis: i64, keep: &Tensor) -> OpResult<Quantizer> {
        let mut quantizer = self.copy();
        match self.granularity {
            Granularity::Channel(a) if a as i64 == axis => {
                quantizer.scale = self.scale.f_index_select(0, keep)?;
                quantizer.zero_point = self.zero_point.f_index_select(0, keep)?;
            }
            Granularity::Group { .. } => invalid!("a weight with one scale a group can't lose slices: prune before `quantize`"),
            _ => {}
        }
        Ok(quantizer)
    }

    /// A deep copy.
    pub fn copy(&self) -> Quantizer {
        Quantizer { scale: self.scale.detach().copy(), zero_point: self.zero_point.copy(), ..*self }
    }
}

/// One bit: the sign times the scale, its gradient passed on where the value lies within one scale of zero (Courbariaux and Bengio, 2016).
fn sign(x: &Tensor, scale: &Tensor) -> OpResult<Tensor> {
    let soft = x.f_div(scale)?.f_clamp(-1.0, 1.0)?;
    let sign = x.f_detach()?.f_ge(0)?.f_to_kind(Kind::Float)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
    Ok(soft.f_add(&sign.f_sub(&soft)?.f_detach()?)?.f_mul(scale)?)
}

/// The same values, through which so small a share of the gradient passes.
fn scaled_gradient(values: &Tensor, share: f64) -> OpResult<Tensor> {
    if !values.requires_grad() {
        return Ok(values.shallow_clone());
    }
    let part = values.f_mul_scalar(share)?;
    Ok(part.f_add(&values.f_sub(&part)?.f_detach()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-4 * a.abs().max(b.abs()).max(1.0)
    }

    /// Masks of attention add minus infinity: it goes to the end of the range, in training too, and has no gradient.
    #[test]
    fn infinities_go_to_the_ends() {
        let quantizer = Quantizer::new(&QuantParams::of_tensor(8, Levels::Unsigned, 0.5, 10).unwrap()).unwrap();
        let x = Tensor::from_slice(&[f32::NEG_INFINITY, 1.0, f32::INFINITY]).set_requires_grad(true);
        let y = quantizer.apply(&x).unwrap();
        assert_eq!(to_f32s(&y).unwrap(), [-5.0, 1.0, 122.5]);
        assert_eq!(to_f32s(&quantizer.apply(&x.detach()).unwrap()).unwrap(), [-5.0, 1.0, 122.5]);
        y.sum(Kind::Float).backward();
        assert_eq!(to_f32s(&x.grad()).unwrap(), [0.0, 1.0, 0.0]);
    }

    proptest! {
        /// A quantizer whose scale is learned gives the values of one whose scale is fixed, and the gradients of Esser et al. (2020): to the
        /// element inside the range, and to the scale the rounding error inside and the end of the range outside. Steps in groups do too.
        #[test]
        fn learned_scales_have_their_gradients(
            steps in proptest::collection::vec(-12i32..12, 1..40), bits in 2u8..5, unsigned: bool,
            granularity in prop_oneof![Just(Granularity::Tensor), Just(Granularity::Channel(0)), Just(Granularity::Group { axis: 1, size: 40 })],
        ) {
            let levels = if unsigned { Levels::Unsigned } else { Levels::Signed };
            // Never on a half.
            let ratios: Vec<f32> = steps.iter().map(|&s| s as f32 + if s % 2 == 0 { 0.2 } else { -0.3 }).collect();
            let (low, high) = levels.range(bits);
            let inside = |r: f32| r >= low as f32 && r <= high as f32;
            let scale = 0.25f32;
            let x = (Tensor::from_slice(&ratios) * scale as f64).reshape([1, -1]).set_requires_grad(true);
            let fixed = Quantizer::new(&QuantParams::new(bits, levels, granularity, vec![scale], vec![0]).unwrap()).unwrap();
            let mut learned = fixed.copy();
            learned.learn().unwrap();
            let leaf = learned.leaf().unwrap().copy().set_requires_grad(true);
            learned.set_leaf(leaf.shallow_clone()).unwrap();
            let y = learned.apply(&x).unwrap();
            for (y, r) in to_f32s(&y).unwrap().into_iter().zip(&ratios) {
                prop_assert!(close(y as f64, (r.round().clamp(low as f32, high as f32) * scale) as f64), "{y} of {r}");
            }
            let still = fixed.apply(&x.detach()).unwrap();
            prop_assert_eq!(to_f32s(&still).unwrap(), to_f32s(&fixed.dequantize(&fixed.quantize(&x).unwrap()).unwrap()).unwrap());
            y.sum(Kind::Float).backward();
            let wanted: Vec<f32> = ratios.iter().map(|&r| f32::from(u8::from(inside(r)))).collect();
            prop_assert_eq!(to_f32s(&x.grad()).unwrap(), wanted);
            let of_scale = |r: f32| if inside(r) { r.round() - r } else { r.clamp(low as f32, high as f32) };
            let factor = 1.0 / (ratios.len() as f64 * high as f64).sqrt();
            // The leaf is the logarithm of base 2.
            let sum = ratios.iter().map(|&r| of_scale(r) as f64).sum::<f64>() * factor * scale as f64 * std::f64::consts::LN_2;
            prop_assert!(close(leaf.grad().double_value(&[0]), sum), "{} {sum}", leaf.grad().double_value(&[0]));
        }
    }
}
