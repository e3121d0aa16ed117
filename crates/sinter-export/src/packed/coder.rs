//! Binary range coding with adaptive probabilities.

use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};
use std::borrow::Borrow;
use std::num::NonZeroU32;

const PRECISION: usize = 16;
const ONE: u32 = 1 << PRECISION;

/// The probability of a zero bit, learnt from the bits so far: the mean of a fast and a slow estimate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    fast: u32,
    slow: u32,
    seen: u8,
}

impl Default for Context {
    fn default() -> Self {
        Self { fast: ONE / 2, slow: ONE / 2, seen: 0 }
    }
}

impl Context {
    fn model(&self) -> Bit {
        Bit(((self.fast + self.slow) / 2).clamp(48, ONE - 48))
    }

    fn learn(&mut self, bit: bool) {
        // The first bits move the estimates further: a context that is used rarely should not start from nothing each time.
        let fast = (self.seen as u32 + 2).min(5);
        let slow = (self.seen as u32 + 2).min(8);
        self.seen = self.seen.saturating_add(1);
        for (estimate, rate) in [(&mut self.fast, fast), (&mut self.slow, slow)] {
            if bit {
                *estimate -= *estimate >> rate;
            } else {
                *estimate += (ONE - *estimate) >> rate;
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Bit(u32);

impl EntropyModel<PRECISION> for Bit {
    type Symbol = bool;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Bit {
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<bool>) -> Option<(u32, NonZeroU32)> {
        let (left, width) = if *symbol.borrow() { (self.0, ONE - self.0) } else { (0, self.0) };
        Some((left, NonZeroU32::new(width)?))
    }
}

impl DecoderModel<PRECISION> for Bit {
    fn quantile_function(&self, quantile: u32) -> (bool, u32, NonZeroU32) {
        // The context clamps its probability away from both ends.
        let (bit, left, width) = if quantile < self.0 { (false, 0, self.0) } else { (true, self.0, ONE - self.0) };
        (bit, left, NonZeroU32::new(width).unwrap_or(NonZeroU32::MIN))
    }
}

/// Writes bits.
#[derive(Default)]
pub(super) struct Encoder {
    coder: DefaultRangeEncoder,
    bits: f64,
}

impl Encoder {
    pub fn bit(&mut self, context: &mut Context, bit: bool) {
        // Encoding into memory can't fail, and the model gives every bit a probability.
        let model = context.model();
        let _ = self.coder.encode_symbol(bit, model);
        let chance = if bit { ONE - model.0 } else { model.0 };
        self.bits -= (chance as f64 / ONE as f64).log2();
        context.learn(bit);
    }

    /// What has been written so far, in bits (fractions included).
    pub fn bits(&self) -> f64 {
        self.bits
    }

    /// The coded bytes; zero bytes at the end are left out, the reader puts them back.
    pub fn finish(self) -> Vec<u8> {
        let words = self.coder.into_compressed().unwrap_or_default();
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        bytes
    }
}

/// Reads bits. Past the end it reads zeros: what is read then fails its checksum.
pub(super) struct Decoder(DefaultRangeDecoder);

impl Decoder {
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|c| {
                let mut word = [0; 4];
                word[..c.len()].copy_from_slice(c);
                u32::from_be_bytes(word)
            })
            .collect();
        DefaultRangeDecoder::from_compressed(words).ok().map(Self)
    }

    pub fn bit(&mut self, context: &mut Context) -> Option<bool> {
        let bit = self.0.decode_symbol(context.model()).ok()?;
        context.learn(bit);
        Some(bit)
    }
}
