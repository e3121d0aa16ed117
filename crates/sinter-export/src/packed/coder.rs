//! Binary range coding: the two ends of a bit stream, and the counters that learn what its bits are.

use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::{DefaultRangeDecoder, DefaultRangeEncoder};
use constriction::stream::{Decode, Encode};
use std::borrow::Borrow;
use std::num::NonZeroU32;

const PRECISION: usize = 16;
/// Probabilities are counted in 1/65536.
pub(super) const ONE: u32 = 1 << PRECISION;

/// The two ends of a bit stream, so that writing and reading are one piece of code and can't disagree.
pub(super) trait Bits {
    /// Codes one bit that is one with the probability `one` (of 65536): the writer gives it, the reader returns what it finds. `None`
    /// when the stream is unreadable.
    fn code(&mut self, one: u32, bit: bool) -> Option<bool>;
}

/// The probability that the next bit is one, learnt from the bits so far. All arithmetic is on integers: every machine learns alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter {
    /// In 1/2^22.
    one: u32,
    seen: u16,
}

impl Default for Counter {
    fn default() -> Self {
        Self { one: 1 << 21, seen: 0 }
    }
}

impl Counter {
    /// The probability of a one, of 65536, away from both ends.
    pub fn one(self) -> u32 {
        (self.one >> 6).clamp(16, ONE - 16)
    }

    /// Moves toward the bit by one over the number of bits seen, and by no less than one over `limit`: the mean of them all while they
    /// are few, of the last ones after that.
    pub fn learn(&mut self, bit: bool, limit: u16) {
        let wanted = if bit { (1 << 22) - 1 } else { 0 };
        let step = (wanted - self.one as i64) * RECIPROCALS[self.seen as usize] as i64;
        self.one = (self.one as i64 + (step >> 16)) as u32;
        self.seen = (self.seen + 1).min(limit.min(LONGEST as u16 - 1));
    }

    /// Codes one bit with this counter alone.
    pub fn code(&mut self, bits: &mut impl Bits, bit: bool, limit: u16) -> Option<bool> {
        let bit = bits.code(self.one(), bit)?;
        self.learn(bit, limit);
        Some(bit)
    }
}

const LONGEST: usize = 1024;
/// 65536 / (n + 2): after one bit the estimate is 3/4, as Krichevsky and Trofimov (1981) have it.
static RECIPROCALS: [u32; LONGEST] = {
    let mut table = [0; LONGEST];
    let mut n = 0;
    while n < LONGEST {
        table[n] = (ONE * 2) / (2 * n as u32 + 4);
        n += 1;
    }
    table
};

/// The probability of a one.
#[derive(Clone, Copy)]
struct Bit(u32);

impl EntropyModel<PRECISION> for Bit {
    type Symbol = bool;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for Bit {
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<bool>) -> Option<(u32, NonZeroU32)> {
        let (left, width) = if *symbol.borrow() { (0, self.0) } else { (self.0, ONE - self.0) };
        Some((left, NonZeroU32::new(width)?))
    }
}

impl DecoderModel<PRECISION> for Bit {
    fn quantile_function(&self, quantile: u32) -> (bool, u32, NonZeroU32) {
        // Probabilities stay away from both ends.
        let (bit, left, width) = if quantile < self.0 { (true, 0, self.0) } else { (false, self.0, ONE - self.0) };
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

impl Bits for Encoder {
    fn code(&mut self, one: u32, bit: bool) -> Option<bool> {
        // Encoding into memory can't fail, and either bit has a probability.
        let _ = self.coder.encode_symbol(bit, Bit(one));
        let chance = if bit { one } else { ONE - one };
        self.bits -= (chance as f64 / ONE as f64).log2();
        Some(bit)
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
}

impl Bits for Decoder {
    fn code(&mut self, one: u32, _bit: bool) -> Option<bool> {
        self.0.decode_symbol(Bit(one)).ok()
    }
}
