//! Numbers as bits of a range coder: integers of any size, and floats that are mostly 16-bit ones.

use half::{bf16, f16};

use super::coder::{Bits, Counter};
use super::symbols::LIMIT;

/// Signed integers of any size: the length in bits (adaptive), the sign, then the bits below the leading one.
pub(super) struct IntegerCoder {
    lengths: Vec<Counter>,
    sign: Counter,
    top: Vec<Counter>,
}

impl IntegerCoder {
    pub fn new() -> Self {
        Self { lengths: vec![Counter::default(); 128], sign: Counter::default(), top: vec![Counter::default(); 65] }
    }

    pub fn code(&mut self, bits: &mut impl Bits, value: i64) -> Option<i64> {
        let magnitude = value.unsigned_abs();
        let wanted = 64 - magnitude.leading_zeros();
        let mut node = 1usize;
        for level in (0..6).rev() {
            let bit = self.lengths[node].code(bits, wanted >> level & 1 == 1, LIMIT)?;
            node = node << 1 | bit as usize;
        }
        let length = (node - 64) as u32;
        if length == 0 {
            return Some(0);
        }
        let negative = self.sign.code(bits, value < 0, LIMIT)?;
        let mut result = 1u64;
        for level in (0..length - 1).rev() {
            // Only the bit after the leading one is worth a counter; the rest are even.
            let mut even = Counter::default();
            let counter = if level + 2 == length { &mut self.top[length as usize] } else { &mut even };
            result = result << 1 | counter.code(bits, magnitude >> level & 1 == 1, LIMIT)? as u64;
        }
        let result = i64::try_from(result).ok()?;
        Some(if negative { -result } else { result })
    }
}

/// How a list of floats is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Float16,
    Bfloat16,
    Float32,
}

/// Lists of float32 that are mostly 16-bit numbers: biases, scales, centroids. A list says first which format holds all of it.
pub(super) struct FloatCoder {
    widths: [Counter; 2],
    /// Sign and exponent, by format.
    heads: Vec<Vec<Counter>>,
    /// The first two bits of the mantissa.
    tails: Vec<Counter>,
}

impl FloatCoder {
    pub fn new() -> Self {
        Self { widths: Default::default(), heads: vec![vec![Counter::default(); 512]; 3], tails: vec![Counter::default(); 16] }
    }

    /// Codes a list of known length.
    pub fn code(&mut self, bits: &mut impl Bits, values: &[f32]) -> Option<Vec<f32>> {
        let all = |exact: &dyn Fn(f32) -> f32| values.iter().all(|&v| exact(v).to_bits() == v.to_bits());
        let width = if all(&|v| f16::from_f32(v).to_f32()) {
            Width::Float16
        } else if all(&|v| bf16::from_f32(v).to_f32()) {
            Width::Bfloat16
        } else {
            Width::Float32
        };
        let half = self.widths[0].code(bits, width == Width::Float16, LIMIT)?;
        let width = match half {
            true => Width::Float16,
            false if self.widths[1].code(bits, width == Width::Bfloat16, LIMIT)? => Width::Bfloat16,
            false => Width::Float32,
        };
        values.iter().map(|&v| self.value(bits, width, v)).collect()
    }

    fn value(&mut self, bits: &mut impl Bits, width: Width, value: f32) -> Option<f32> {
        // Sign and exponent lie in the upper bits of all three formats.
        let (pattern, length, head) = match width {
            Width::Float16 => (f16::from_f32(value).to_bits() as u32, 16, 6),
            Width::Bfloat16 => (bf16::from_f32(value).to_bits() as u32, 16, 9),
            Width::Float32 => (value.to_bits(), 32, 9),
        };
        let heads = &mut self.heads[width as usize];
        let (mut read, mut node) = (0u32, 1usize);
        for level in (0..length).rev() {
            let done = length - 1 - level;
            let wanted = pattern >> level & 1 == 1;
            let bit = if done < head {
                heads[node].code(bits, wanted, LIMIT)?
            } else if done < head + 2 {
                // The first bit after the exponent, and the second given the first.
                let given = if done == head { 0 } else { 1 + (read & 1) as usize };
                self.tails[(width as usize) << 2 | given].code(bits, wanted, LIMIT)?
            } else {
                Counter::default().code(bits, wanted, LIMIT)?
            };
            node = (node << 1 | bit as usize) & 511;
            read = read << 1 | bit as u32;
        }
        Some(match width {
            Width::Float16 => f16::from_bits(read as u16).to_f32(),
            Width::Bfloat16 => bf16::from_bits(read as u16).to_f32(),
            Width::Float32 => f32::from_bits(read),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::coder::{Decoder, Encoder};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            values in proptest::collection::vec(-1_000_000_000i64..1_000_000_000, 0..200),
            floats in proptest::collection::vec(any::<f32>(), 0..50), rough in any::<bool>(),
        ) {
            let floats: Vec<f32> = floats.into_iter().map(|f| if rough { bf16::from_f32(f).to_f32() } else { f }).filter(|f| !f.is_nan()).collect();
            let mut encoder = Encoder::default();
            let mut coder = IntegerCoder::new();
            values.iter().for_each(|&v| { coder.code(&mut encoder, v).unwrap(); });
            FloatCoder::new().code(&mut encoder, &floats).unwrap();
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut coder = IntegerCoder::new();
            for &v in &values {
                prop_assert_eq!(coder.code(&mut decoder, 0), Some(v));
            }
            let back = FloatCoder::new().code(&mut decoder, &vec![0.0; floats.len()]).unwrap();
            prop_assert!(back.iter().zip(&floats).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
