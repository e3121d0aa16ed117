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
}

/// Which integers a grid uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// 0 to 2^bits - 1.
    Unsigned,
    /// -2^(bits-1) to 2^(bits-1) - 1.
    Signed,
    /// Signed without the lowest integer, so that -q exists for every q; the zero point is 0.
    Symmetric,
}

/// Uniform affine quantization: `value = (q - zero_point) * scale`, with q an integer of `bits` bits.
#[derive(Debug)]
pub struct Grid {
    bits: u8,
    levels: Levels,
    shape: GridShape,
    /// float32, `[1]` or `[channels]`, each finite and above zero.
    scale: Tensor,
    /// int32, same shape, each within the integer range.
    zero_point: Tensor,
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
        };
        let (low, high) = grid.range();
        let symmetric = levels != Levels::Symmetric || zero_point.iter().all(|&z| z == 0);
        if !symmetric || zero_point.iter().any(|z| !(low..=high).contains(z)) {
            invalid!("a zero point is not possible in {low}..={high}, {levels:?}");
        }
        Ok(grid)
    }

    /// A symmetric grid for a largest magnitude (per tensor, or per channel): zero point 0. A channel of zeros gets a tiny scale.
    pub fn symmetric(bits: u8, shape: GridShape, magnitude: &[f32]) -> OpResult<Self> {
        let top = ((1i64 << (bits.clamp(2, 32) - 1)) - 1) as f32;
        let floor = magnitude.iter().fold(0f32, |a, &b| a.max(b)).max(1e-6) * 1e-4;
        let scale: Vec<f32> = magnitude.iter().map(|&m| short(m.max(floor) / top)).collect();
        Self::new(bits, Levels::Symmetric, shape, &scale, &vec![0; scale.len()])
    }

    /// An asymmetric grid per tensor whose range holds `low`, `high` and zero, zero exactly.
    pub fn affine(bits: u8, levels: Levels, low: f32, high: f32) -> OpResult<Self> {
        if !low.is_finite() || !high.is_finite() {
            invalid!("a range from {low} to {high} can't be quantized");
        }
        let (low, high) = (low.min(0.0), high.max(0.0).max(low.min(0.0) + 1e-6));
        if !(1..=16).contains(&bits) {
            invalid!("an activation of {bits} bits is not possible: 1 to 16");
        }
        let (bottom, top) = integers(bits, levels);
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
        to_f32s(&self.scale)
    }

    /// The zero points.
    pub fn zero_points(&self) -> OpResult<Vec<i64>> {
        to_i64s(&self.zero_point)
    }

    /// The smallest and the largest integer in use.
    pub fn range(&self) -> (i64, i64) {
        integers(self.bits, self.levels)
    }

    /// Rounds to the grid and back, with a straight-through gradient inside the range (Jacob et al., 2018).
    pub fn apply(&self, x: &Tensor) -> OpResult<Tensor> {
        let (low, high) = self.range();
        let (axis, rows) = match self.shape {
            GridShape::Tensor => {
                let scale = self.scale.f_double_value(&[0])?;
                let zero = self.zero_point.f_int64_value(&[0])?;
                return Ok(x.f_fake_quantize_per_tensor_affine(scale, zero, low, high)?);
            }
            GridShape::Channel(axis) => (axis, self.scale.numel() as i64),
        };
        if x.size().get(axis) != Some(&rows) {
            invalid!("a grid of {rows} channels along axis {axis} does not fit shape {:?}", x.size());
        }
        Ok(x.f_fake_quantize_per_channel_affine(&self.scale, &self.zero_point, axis as i64, low, high)?)
    }

    /// The scale shaped so that it broadcasts over a tensor of rank `rank`.
    fn spread(&self, values: &Tensor, rank: usize) -> OpResult<Tensor> {
        let mut shape = vec![1; rank];
        if let GridShape::Channel(axis) = self.shape {
            shape[axis] = values.numel() as i64;
        } else if rank == 0 {
            return Ok(values.f_reshape([0i64; 0])?);
        }
        Ok(values.f_reshape(shape)?)
    }

    /// The integers of a tensor, int64, same shape.
    pub fn quantize(&self, x: &Tensor) -> OpResult<Tensor> {
        let (low, high) = self.range();
        let scale = self.spread(&self.scale, x.dim())?.f_to_kind(Kind::Double)?;
        let zero = self.spread(&self.zero_point, x.dim())?;
        let q = x.f_detach()?.f_to_kind(Kind::Double)?.f_div(&scale)?.f_round()?.f_add(&zero)?;
        Ok(q.f_clamp(low as f64, high as f64)?.f_to_kind(Kind::Int64)?)
    }

    /// The float32 values of integers: `(q - zero_point) * scale`.
    pub fn dequantize(&self, q: &Tensor) -> OpResult<Tensor> {
        let scale = self.spread(&self.scale, q.dim())?;
        let zero = self.spread(&self.zero_point, q.dim())?;
        Ok(q.f_sub(&zero)?.f_to_kind(Kind::Float)?.f_mul(&scale)?)
    }

    /// What breaks the invariant in `effective`: a value that is not on the grid.
    pub fn broken(&self, effective: &Tensor) -> OpResult<Option<String>> {
        let effective = effective.f_detach()?;
        let back = self.dequantize(&self.quantize(&effective)?)?;
        let tolerance = self.spread(&self.scale, effective.dim())?.f_mul_scalar(1e-3)?;
        let slack = effective.f_abs()?.f_mul_scalar(1e-5)?;
        let off = back.f_sub(&effective)?.f_abs()?.f_gt_tensor(&tolerance.f_add(&slack)?)?;
        let count = off.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok((count > 0).then(|| format!("{count} values are off the {}-bit grid", self.bits)))
    }

    /// The grid of the slices `keep` along `axis`.
    pub fn select(&self, axis: i64, keep: &Tensor) -> OpResult<Grid> {
        let mut grid = self.copy();
        if self.shape == GridShape::Channel(axis as usize) {
            grid.scale = self.scale.f_index_select(0, keep)?;
            grid.zero_point = self.zero_point.f_index_select(0, keep)?;
        }
        Ok(grid)
    }

    /// A deep copy.
    pub fn copy(&self) -> Grid {
        Grid { scale: self.scale.copy(), zero_point: self.zero_point.copy(), ..*self }
    }

    /// The grid in words: `int8/channel`, `uint4`.
    pub fn describe(&self) -> String {
        let sign = if self.levels == Levels::Unsigned { "u" } else { "" };
        let reach = if self.shape == GridShape::Tensor { "" } else { "/channel" };
        format!("{sign}int{}{reach}", self.bits)
    }
}

/// The next bfloat16, upward so that the range still fits: scales take 16 bits in a file, and products of two are exact in float32.
fn short(scale: f32) -> f32 {
    f32::from_bits((scale.to_bits() + 0xffff) & 0xffff_0000)
}

fn integers(bits: u8, levels: Levels) -> (i64, i64) {
    let half = 1i64 << (bits - 1);
    match levels {
        Levels::Unsigned => (0, 2 * half - 1),
        Levels::Signed => (-half, half - 1),
        Levels::Symmetric if bits == 1 => (-1, 0),
        Levels::Symmetric => (1 - half, half - 1),
    }
}
