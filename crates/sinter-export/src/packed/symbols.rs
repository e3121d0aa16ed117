//! Sequences of small numbers as adaptively coded bits.

use super::coder::{Context, Decoder, Encoder};

/// The two ends of a bit stream, so that writing and reading are one piece of code and can't disagree.
pub(super) trait Bits {
    /// Codes one bit: the writer gives it, the reader returns what it finds. `None` when the stream is unreadable.
    fn bit(&mut self, context: &mut Context, bit: bool) -> Option<bool>;
}

impl Bits for Encoder {
    fn bit(&mut self, context: &mut Context, bit: bool) -> Option<bool> {
        Encoder::bit(self, context, bit);
        Some(bit)
    }
}

impl Bits for Decoder {
    fn bit(&mut self, context: &mut Context, _bit: bool) -> Option<bool> {
        Decoder::bit(self, context)
    }
}

/// Indices into a table of `count` values, of which `zero` is the commonest (the value zero, where there is one). A flag says whether an
/// index is that one, in a context of the two before it; the others follow as the path through a binary tree.
pub(super) struct IndexCoder {
    zero: Option<u32>,
    depth: u32,
    flags: [Context; 4],
    tree: Vec<Context>,
    history: usize,
}

impl IndexCoder {
    pub fn new(count: usize, zero: Option<u32>) -> Self {
        let depth = usize::BITS - count.saturating_sub(1).leading_zeros();
        Self { zero, depth, flags: Default::default(), tree: vec![Context::default(); 1 << depth], history: 0 }
    }

    pub fn code(&mut self, bits: &mut impl Bits, index: u32) -> Option<u32> {
        if let Some(zero) = self.zero {
            let is_zero = bits.bit(&mut self.flags[self.history], index == zero)?;
            self.history = (self.history << 1 | is_zero as usize) & 3;
            if is_zero {
                return Some(zero);
            }
        }
        let mut node = 1usize;
        for level in (0..self.depth).rev() {
            let bit = bits.bit(&mut self.tree[node], index >> level & 1 == 1)?;
            node = node << 1 | bit as usize;
        }
        Some((node - (1 << self.depth)) as u32)
    }
}

/// Signed integers of any size: the length in bits (adaptive), the sign, then the bits below the leading one.
pub(super) struct IntegerCoder {
    lengths: Vec<Context>,
    sign: Context,
    top: Vec<Context>,
}

impl IntegerCoder {
    pub fn new() -> Self {
        Self { lengths: vec![Context::default(); 64], sign: Context::default(), top: vec![Context::default(); 64] }
    }

    pub fn code(&mut self, bits: &mut impl Bits, value: i64) -> Option<i64> {
        let magnitude = value.unsigned_abs();
        let wanted = 64 - magnitude.leading_zeros();
        let mut node = 1usize;
        for level in (0..6).rev() {
            let bit = bits.bit(&mut self.lengths[node], wanted >> level & 1 == 1)?;
            node = node << 1 | bit as usize;
        }
        let length = (node - 64) as u32;
        if length == 0 {
            return Some(0);
        }
        let negative = bits.bit(&mut self.sign, value < 0)?;
        let mut result = 1u64;
        for level in (0..length - 1).rev() {
            // Only the bit after the leading one is worth a context; the rest are even.
            let mut even = Context::default();
            let context = if level + 2 == length { &mut self.top[length as usize] } else { &mut even };
            result = result << 1 | bits.bit(context, magnitude >> level & 1 == 1)? as u64;
        }
        let result = i64::try_from(result).ok()?;
        Some(if negative { -result } else { result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn indices_come_back(indices in proptest::collection::vec(0u32..37, 0..300), zero in proptest::option::of(0u32..37)) {
            let mut encoder = Encoder::default();
            let mut coder = IndexCoder::new(37, zero);
            indices.iter().for_each(|&i| { coder.code(&mut encoder, i).unwrap(); });
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut coder = IndexCoder::new(37, zero);
            for &i in &indices {
                prop_assert_eq!(coder.code(&mut decoder, 0), Some(i));
            }
        }

        #[test]
        fn integers_come_back(values in proptest::collection::vec(-1_000_000_000i64..1_000_000_000, 0..200)) {
            let mut encoder = Encoder::default();
            let mut coder = IntegerCoder::new();
            values.iter().for_each(|&v| { coder.code(&mut encoder, v).unwrap(); });
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut coder = IntegerCoder::new();
            for &v in &values {
                prop_assert_eq!(coder.code(&mut decoder, 0), Some(v));
            }
        }
    }

    #[test]
    fn a_sparse_sequence_comes_near_its_entropy() {
        // 90 % zeros, the rest uniform over 15: H = 0.469 + 0.1 * log2(15) = 0.860 bit.
        let mut rng = 12345u64;
        let mut next = || {
            rng = rng.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (rng >> 33) as u32
        };
        let n = 200_000;
        let indices: Vec<u32> = (0..n).map(|_| if next() % 10 == 0 { 1 + next() % 15 } else { 0 }).collect();
        let mut encoder = Encoder::default();
        let mut coder = IndexCoder::new(16, Some(0));
        indices.iter().for_each(|&i| {
            coder.code(&mut encoder, i);
        });
        let bits = encoder.finish().len() as f64 * 8.0 / n as f64;
        assert!(bits < 0.860 * 1.03, "{bits} bits a symbol");
    }
}
