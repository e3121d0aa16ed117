//! Quantization parameters: scale, zero point, bits, sign and granularity, from calibration to C in one type.

use serde::{Deserialize, Serialize};

use crate::error::{OpError, OpResult, invalid};

/// How many elements share a scale and a zero point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// All of the tensor.
    Tensor,
    /// Those of one index of this axis.
    Channel(usize),
    /// Those of one run of `size` elements along an axis; the last run may be shorter.
    Group {
        /// Along which axis runs go.
        axis: usize,
        /// Elements to a run, the group size.
        size: usize,
    },
}

impl Granularity {
    /// The shape of the scales of a tensor of this shape: one along the axis for each run, for groups.
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

/// Which integers are in use: the sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// Uniform affine quantization: `value = (q - zero_point) * scale`, with q an integer of `bits` bits; ties are rounded to even.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct QuantParams {
    bits: u8,
    levels: Levels,
    granularity: Granularity,
    /// One, one a channel, or one a group in the order of the tensor; each finite and above zero.
    scales: Vec<f32>,
    /// As many, each within the integers in use.
    zero_points: Vec<i64>,
}

/// As stored, before it is checked.
#[derive(Deserialize)]
struct Parts {
    bits: u8,
    levels: Levels,
    granularity: Granularity,
    scales: Vec<f32>,
    zero_points: Vec<i64>,
}

impl TryFrom<Parts> for QuantParams {
    type Error = OpError;
    fn try_from(p: Parts) -> Result<Self, OpError> {
        Self::new(p.bits, p.levels, p.granularity, p.scales, p.zero_points)
    }
}

impl QuantParams {
    /// Checked parameters. Errors on a scale that is not positive and finite, a zero point that is not among the integers, or a width
    /// outside 1..=32.
    pub fn new(bits: u8, levels: Levels, granularity: Granularity, scales: Vec<f32>, zero_points: Vec<i64>) -> OpResult<Self> {
        if !(1..=32).contains(&bits) {
            invalid!("{bits} bits is not a width from 1 to 32");
        }
        if scales.is_empty() || scales.len() != zero_points.len() || (granularity == Granularity::Tensor && scales.len() != 1) {
            invalid!("{} scales and {} zero points do not fit a granularity of {granularity:?}", scales.len(), zero_points.len());
        }
        if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            invalid!("a scale must be positive and finite, not {bad}");
        }
        if let Granularity::Group { size: 0, .. } = granularity {
            invalid!("a group has at least one element");
        }
        if (levels == Levels::Binary) != (bits == 1) {
            invalid!("{bits} bits have no levels {levels:?}");
        }
        let (low, high) = levels.range(bits);
        let symmetric = !matches!(levels, Levels::Symmetric | Levels::Binary) || zero_points.iter().all(|&z| z == 0);
        if !symmetric || zero_points.iter().any(|z| !(low..=high).contains(z)) {
            invalid!("a zero point is not possible in {low}..={high}, {levels:?}");
        }
        Ok(Self { bits, levels, granularity, scales, zero_points })
    }

    /// One scale and zero point for the tensor.
    pub fn of_tensor(bits: u8, levels: Levels, scale: f32, zero_point: i64) -> OpResult<Self> {
        Self::new(bits, levels, Granularity::Tensor, vec![scale], vec![zero_point])
    }

    /// Symmetric, for the largest magnitude of each scale's elements: zero point 0. Where all are zero the scale is tiny.
    pub fn symmetric(bits: u8, granularity: Granularity, magnitude: &[f32]) -> OpResult<Self> {
        let top = ((1i64 << (bits.clamp(2, 32) - 1)) - 1) as f32;
        let floor = magnitude.iter().fold(0f32, |a, &b| a.max(b)).max(1e-6) * 1e-4;
        let scales: Vec<f32> = magnitude.iter().map(|&m| Self::storable(m.max(floor) / top)).collect();
        let zero_points = vec![0; scales.len()];
        Self::new(bits, Levels::Symmetric, granularity, scales, zero_points)
    }

    /// With zero point 0 and these scales, each rounded to the nearest that 16 bits hold.
    pub fn scaled(bits: u8, levels: Levels, granularity: Granularity, scales: &[f32]) -> OpResult<Self> {
        let scales: Vec<f32> = scales.iter().map(|&s| Self::nearest_storable(s)).collect();
        let zero_points = vec![0; scales.len()];
        Self::new(bits, levels, granularity, scales, zero_points)
    }

    /// Asymmetric, for the tensor, over a range that holds `low`, `high` and zero, zero exactly.
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
            return Self::of_tensor(bits, levels, Self::storable(high.max(-low) / top as f32), 0);
        }
        let scale = Self::storable((high - low) / (top - bottom) as f32);
        let zero_point = (bottom as f32 - low / scale).round_ties_even() as i64;
        Self::of_tensor(bits, levels, scale, zero_point.clamp(bottom, top))
    }

    /// The next scale upward that 16 bits (bfloat16) hold, so that the range still fits: files store it so, and products of two are exact
    /// in float32.
    pub fn storable(scale: f32) -> f32 {
        f32::from_bits((scale.to_bits() + 0xffff) & 0xffff_0000)
    }

    /// The nearest scale that 16 bits hold, never zero.
    pub fn nearest_storable(scale: f32) -> f32 {
        f32::from_bits((scale.max(f32::MIN_POSITIVE).to_bits() + 0x8000) & 0xffff_0000)
    }

    /// The least and the greatest value of the first scale.
    pub fn ends(&self) -> (f32, f32) {
        let (low, high) = self.levels.range(self.bits);
        let value = |q: i64| ((q - self.zero_point()) as f64 * f64::from(self.scale(0))) as f32;
        (value(low), value(high))
    }

    /// The width of the integers.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Which integers are in use.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// How many elements share a scale.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The scales: one, one a channel, or one a group in the order of the tensor.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The zero points, as many.
    pub fn zero_points(&self) -> &[i64] {
        &self.zero_points
    }

    /// The scale of index `i` along the axis; of one for the tensor always that.
    pub fn scale(&self, i: usize) -> f32 {
        self.scales[i % self.scales.len()]
    }

    /// The zero point, where there is one for all.
    pub fn zero_point(&self) -> i64 {
        self.zero_points[0]
    }

    /// The axis of a granularity by channel or group; 0 for the tensor.
    pub fn axis(&self) -> usize {
        match self.granularity {
            Granularity::Tensor => 0,
            Granularity::Channel(axis) | Granularity::Group { axis, .. } => axis,
        }
    }

    /// The smallest and the largest integer in use.
    pub fn range(&self) -> (i64, i64) {
        self.levels.range(self.bits)
    }

    /// The same values with their scales along another axis: of the same tensor with its axes moved.
    pub fn along(&self, axis: usize) -> Self {
        let granularity = match self.granularity {
            Granularity::Tensor => Granularity::Tensor,
            Granularity::Channel(_) => Granularity::Channel(axis),
            Granularity::Group { size, .. } => Granularity::Group { axis, size },
        };
        Self { granularity, ..self.clone() }
    }

    /// The same values in signed integers, -128 to 127 for 8 bits, as the kernels of devices have them.
    pub fn signed(&self) -> Self {
        let shift = if self.levels == Levels::Unsigned { 1i64 << (self.bits - 1) } else { 0 };
        let zero_points = self.zero_points.iter().map(|z| z - shift).collect();
        let levels = if self.levels == Levels::Binary { Levels::Binary } else { Levels::Signed };
        Self { levels, zero_points, ..self.clone() }
    }

    /// The integer of a value by the first scale, ties to even.
    pub fn quantize(&self, value: f32) -> i64 {
        let (low, high) = self.range();
        ((value / self.scales[0]).round_ties_even() as i64).saturating_add(self.zero_points[0]).clamp(low, high)
    }

    /// The value of an integer by the first scale.
    pub fn dequantize(&self, q: i64) -> f32 {
        (q - self.zero_points[0]) as f32 * self.scales[0]
    }

    /// In words: `int8/channel`, `uint4`, `int4/group:128`.
    pub fn describe(&self) -> String {
        let kind = match (self.levels, self.bits) {
            (Levels::Binary, _) => "binary".to_string(),
            (Levels::Symmetric, 2) => "ternary".to_string(),
            (Levels::Unsigned, bits) => format!("uint{bits}"),
            (_, bits) => format!("int{bits}"),
        };
        match self.granularity {
            Granularity::Tensor => kind,
            Granularity::Channel(_) => kind + "/channel",
            Granularity::Group { size, .. } => format!("{kind}/group:{size}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let tensor = |bits, levels, scale, zero| QuantParams::of_tensor(bits, levels, scale, zero);
        for (bits, levels, scale, zero) in [
            (8, Levels::Unsigned, 0.0, 0),
            (8, Levels::Unsigned, f32::NAN, 0),
            (8, Levels::Unsigned, f32::INFINITY, 0),
            (8, Levels::Unsigned, 1.0, -1),
            (8, Levels::Signed, 1.0, 128),
            (8, Levels::Symmetric, 1.0, 1),
            (1, Levels::Signed, 1.0, 0),
            (0, Levels::Signed, 1.0, 0),
            (33, Levels::Signed, 1.0, 0),
        ] {
            assert!(tensor(bits, levels, scale, zero).is_err(), "{bits} {levels:?} {scale} {zero}");
        }
        assert!(QuantParams::new(4, Levels::Signed, Granularity::Group { axis: 0, size: 0 }, vec![1.0], vec![0]).is_err());
        let stored = serde_json::to_string(&tensor(8, Levels::Unsigned, 0.5, 3).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<QuantParams>(&stored).unwrap(), tensor(8, Levels::Unsigned, 0.5, 3).unwrap());
        assert!(serde_json::from_str::<QuantParams>(&stored.replace("0.5", "-0.5")).is_err());
    }

    #[test]
    fn a_sign_is_a_shift() {
        let params = QuantParams::of_tensor(8, Levels::Unsigned, 0.25, 100).unwrap();
        let signed = params.signed();
        assert_eq!((signed.range(), signed.zero_point()), ((-128, 127), -28));
        for value in [-30.0, -0.1, 0.0, 0.125, 0.375, 7.3, 100.0] {
            assert_eq!(params.quantize(value) - 128, signed.quantize(value), "{value}");
            assert_eq!(params.dequantize(params.quantize(value)), signed.dequantize(signed.quantize(value)));
        }
        // 0.125 is half a step: to even.
        assert_eq!((params.quantize(0.125), params.quantize(0.375)), (100, 102));
    }
}
