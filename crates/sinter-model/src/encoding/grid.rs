//! The grid: values on evenly spaced levels, as integers with a scale and a zero point.

use tch::{Kind, Tensor};

use crate::error::{OpResult, invalid};
use crate::tensor::{to_f32s, to_i64s};

/// Over what one scale reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GridShape {
    /// One scale for the tensor.
    Tensor,
    /// One scale for each index of an axis.
    Channel(usize),
    /// One scale for each run of `size` elements along an axis; the last run may be shorter.
    Group { axis: usize, size: usize },
}

impl Levels {
    /// The smallest and the largest integer of so many bits.
    pub fn range(self, bits: u8) -> (i64, i64) {
        let half = 1i64 << (bits - 1);
        match self {
            Levels::Unsigned => (0, 2 * half - 1),
            Levels::Signed => (-half, half - 1),
            Levels::Symmetric => (1 - half, half - 1),
            Levels::Binary => (-1, 1),
        }
    }
}

impl GridShape {
    /// The shape of the scales of a tensor: one along the axis for each run, for groups.
    pub fn blocks(self, shape: &[i64]) -> Vec<i64> {
        match self {
            Self::Tensor => vec![],
            Self::Channel(axis) => vec![shape.get(axis).copied().unwrap_or(0)],
            Self::Group { axis, size } => {
                let runs = |(a, &n): (usize, &i64)| if a == axis { (n as u64).div_ceil(size.max(1) as u64) as i64 } else { n };
                shape.iter().enumerate().map(runs).collect()
            }
        }
    }

    /// The number of scales of a tensor of this shape; `None` when there is no such axis.
    pub fn scales(self, shape: &[i64]) -> Option<i64> {
        match self {
            Self::Channel(axis) | Self::Group { axis, .. } if axis >= shape.len() => None,
            _ => self.blocks(shape).iter().try_fold(1i64, |n, &b| n.checked_mul(b)),
        }
    }
}

/// Which integers a grid uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// 0 to 2^bits - 1.
    Unsigned,
    /// -2^(bits-1) to 2^(bits-1) - 1.
    Signed,
    /// Signed without the lowest integer, so that -q exists for every q; the zero point is 0. With 2 bits: ternary.
    Symmetric,
    /// -1 and 1, in one bit.
    Binary,
}

/// Uniform affine quantization: `value = (q - zero_point) * scale`, with q an integer of `bits` bits.
#[derive(Debug)]
pub struct Grid {
    bits: u8,
    levels: Levels,
    shape: GridShape,
    /// float32, flat: one, one a channel, or one a group in the order of the weight; each finite and above zero.
    scale: Tensor,
    /// int32, same shape, each within the integer range.
    zero_point: Tensor,
    /// Whether gradients train the scales: then `scale` holds their base-2 logarithms, so that a step is a ratio (Jain et al., 2020).
    learned: bool,
}

impl Grid {
    /// A grid. Errors on a scale that is not positive and finite, a zero point out of range, or a bit width outside 1..=32.
    pub fn new(bits: u8, levels: Levels, shape: GridShape, scale: &[f32], zero_point: &[i64]) -> OpResult<Self> {
        if !(1..=32).contains(&bits) {
            invalid!("{bits} bits is not a width from 1 to 32");
        }
        if scale.is_empty() || scale.len() != zero_point.len() || (shape == GridShape::Tensor && scale.len() != 1) {
            invalid!("{} scales and {} zero points do not fit a grid {shape:?}", scale.len(), zero_point.len());
        }
        if let Some(bad) = scale.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            invalid!("a scale must be positive and finite, not {bad}");
        }
        let grid = Self {
            bits,
            levels,
            shape,
            scale: Tensor::from_slice(scale),
            zero_point: Tensor::from_slice(zero_point).f_to_kind(Kind::Int)?,
            learned: false,
        };
        if let GridShape::Group { size: 0, .. } = shape {
            invalid!("a group has at least one element");
        }
        if (levels == Levels::Binary) != (bits == 1) {
            invalid!("a grid of {bits} bits has no levels {levels:?}");
        }
        let (low, high) = grid.range();
        let symmetric = !matches!(levels, Levels::Symmetric | Levels::Binary) || zero_point.iter().all(|&z| z == 0);
        if !symmetric || zero_point.iter().any(|z| !(low..=high).contains(z)) {
            invalid!("a zero point is not possible in {low}..={high}, {levels:?}");
        }
        Ok(grid)
    }

    /// A symmetric grid for the largest magnitude of each scale's elements: zero point 0. Where all are zero the scale is tiny.
    pub fn symmetric(bits: u8, shape: GridShape, magnitude: &[f32]) -> OpResult<Self> {
        let top = ((1i64 << (bits.clamp(2, 32) - 1)) - 1) as f32;
        let floor = magnitude.iter().fold(0f32, |a, &b| a.max(b)).max(1e-6) * 1e-4;
        let scale: Vec<f32> = magnitude.iter().map(|&m| short(m.max(floor) / top)).collect();
        Self::new(bits, Levels::Symmetric, shape, &scale, &vec![0; scale.len()])
    }

    /// The smallest scale that 16 bits hold and that is no smaller.
    pub fn storable(scale: f32) -> f32 {
        short(scale)
    }

    /// A grid with zero point 0 and these scales, rounded to the nearest that 16 bits hold.
    pub fn scaled(bits: u8, levels: Levels, shape: GridShape, scales: &[f32]) -> OpResult<Self> {
        let scales: Vec<f32> = scales.iter().map(|&s| nearest_short(s)).collect();
        Self::new(bits, levels, shape, &scales, &vec![0; scales.len()])
    }

    /// An asymmetric grid per tensor whose range holds `low`, `high` and zero, zero exactly.
    pub fn affine(bits: u8, levels: Levels, low: f32, high: f32) -> OpResult<Self> {
        if !low.is_finite() || !high.is_finite() {
            invalid!("a range from {low} to {high} can't be quantized");
        }
        let (low, high) = (low.min(0.0), high.max(0.0).max(low.min(0.0) + 1e-6));
        if !(2..=16).contains(&bits) {
            invalid!("an activation of {bits} bits is not possible: 2 to 16");
        }
        let (bottom, top) = levels.range(bits);
        if levels == Levels::Symmetric {
            let scale = short(high.max(-low) / top as f32);
            return Self::new(bits, levels, GridShape::Tensor, &[scale], &[0]);
        }
        let scale = short((high - low) / (top - bottom) as f32);
        let zero_point = (bottom as f32 - low / scale).round_ties_even() as i64;
        Self::new(bits, levels, GridShape::Tensor, &[scale], &[zero_point.clamp(bottom, top)])
    }

    /// The width of the integers.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Which integers are in use.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// Over what one scale reaches.
    pub fn shape(&self) -> GridShape {
        self.shape
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

    /// Rounds to the grid and back. The gradient passes straight through inside the range (Jacob et al., 2018) and, where scales are
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
        let wanted = self.shape.scales(shape);
        match wanted == Some(self.scale.numel() as i64) {
            true => Ok(()),
            false => invalid!("a grid of {} scales, {:?}, does not fit shape {shape:?}", self.scale.numel(), self.shape),
        }
    }

    /// Scales or zero points shaped so that they broadcast over a tensor of this shape.
    fn spread(&self, values: &Tensor, shape: &[i64]) -> OpResult<Tensor> {
        let mut broad = vec![1; shape.len()];
        match self.shape {
            GridShape::Tensor => {}
            GridShape::Channel(axis) => broad[axis] = values.numel() as i64,
            GridShape::Group { axis, size } => {
                let runs = values.f_reshape(self.shape.blocks(shape))?;
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

    /// Replaces what gradients train (same shape). Without effect on a grid whose scales are not learned.
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
        let scales: Vec<f32> = self.scales()?.into_iter().map(nearest_short).collect();
        *self = Self::new(self.bits, self.levels, self.shape, &scales, &self.zero_points()?)?;
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

    /// What breaks the invariant in `effective`: a value that is not on the grid.
    pub fn broken(&self, effective: &Tensor) -> OpResult<Option<String>> {
        let effective = effective.f_detach()?;
        let back = self.dequantize(&self.quantize(&effective)?)?;
        let tolerance = self.scale_of_each(&effective.size())?.f_mul_scalar(1e-3)?;
        let slack = effective.f_abs()?.f_mul_scalar(1e-5)?;
        let off = back.f_sub(&effective)?.f_abs()?.f_gt_tensor(&tolerance.f_add(&slack)?)?;
        let count = off.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok((count > 0).then(|| format!("{count} values are off the {}-bit grid", self.bits)))
    }

    /// The grid of the slices `keep` along `axis`.
    pub fn select(&self, axis: i64, keep: &Tensor) -> OpResult<Grid> {
        let mut grid = self.copy();
        match self.shape {
            GridShape::Channel(a) if a as i64 == axis => {
                grid.scale = self.scale.f_index_select(0, keep)?;
                grid.zero_point = self.zero_point.f_index_select(0, keep)?;
            }
            GridShape::Group { .. } => invalid!("a weight with one scale a group can't lose slices: prune before `quantize`"),
            _ => {}
        }
        Ok(grid)
    }

    /// A deep copy.
    pub fn copy(&self) -> Grid {
        Grid { scale: self.scale.detach().copy(), zero_point: self.zero_point.copy(), ..*self }
    }

    /// The grid in words: `int8/channel`, `uint4`.
    pub fn describe(&self) -> String {
        let kind = match (self.levels, self.bits) {
            (Levels::Binary, _) => "binary".to_string(),
            (Levels::Symmetric, 2) => "ternary".to_string(),
            (Levels::Unsigned, bits) => format!("uint{bits}"),
            (_, bits) => format!("int{bits}"),
        };
        match self.shape {
            GridShape::Tensor => kind,
            GridShape::Channel(_) => kind + "/channel",
            GridShape::Group { size, .. } => format!("{kind}/group:{size}"),
        }
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

/// The nearest bfloat16, never zero.
fn nearest_short(scale: f32) -> f32 {
    f32::from_bits((scale.max(f32::MIN_POSITIVE).to_bits() + 0x8000) & 0xffff_0000)
}

/// The next bfloat16, upward so that the range still fits: scales take 16 bits in a file, and products of two are exact in float32.
fn short(scale: f32) -> f32 {
    f32::from_bits((scale.to_bits() + 0xffff) & 0xffff_0000)
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
        let grid = Grid::new(8, Levels::Unsigned, GridShape::Tensor, &[0.5], &[10]).unwrap();
        let x = Tensor::from_slice(&[f32::NEG_INFINITY, 1.0, f32::INFINITY]).set_requires_grad(true);
        let y = grid.apply(&x).unwrap();
        assert_eq!(to_f32s(&y).unwrap(), [-5.0, 1.0, 122.5]);
        assert_eq!(to_f32s(&grid.apply(&x.detach()).unwrap()).unwrap(), [-5.0, 1.0, 122.5]);
        y.sum(Kind::Float).backward();
        assert_eq!(to_f32s(&x.grad()).unwrap(), [0.0, 1.0, 0.0]);
    }

    proptest! {
        /// A grid whose scale is learned gives the values of one whose scale is fixed, and the gradients of Esser et al. (2020): to the
        /// element inside the range, and to the scale the rounding error inside and the end of the range outside. Steps in groups do too.
        #[test]
        fn learned_scales_have_their_gradients(
            steps in proptest::collection::vec(-12i32..12, 1..40), bits in 2u8..5, unsigned: bool,
            shape in prop_oneof![Just(GridShape::Tensor), Just(GridShape::Channel(0)), Just(GridShape::Group { axis: 1, size: 40 })],
        ) {
            let levels = if unsigned { Levels::Unsigned } else { Levels::Signed };
            // Never on a half.
            let ratios: Vec<f32> = steps.iter().map(|&s| s as f32 + if s % 2 == 0 { 0.2 } else { -0.3 }).collect();
            let (low, high) = levels.range(bits);
            let inside = |r: f32| r >= low as f32 && r <= high as f32;
            let scale = 0.25f32;
            let x = (Tensor::from_slice(&ratios) * scale as f64).reshape([1, -1]).set_requires_grad(true);
            let fixed = Grid::new(bits, levels, shape, &[scale], &[0]).unwrap();
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
