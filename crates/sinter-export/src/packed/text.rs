//! The header's text: bytes in contexts of what came before, learnt from a typical header first, so that a small model's topology costs
//! little more than what is its own.

use super::coder::Bits;
use super::mixing::Mixed;

/// A typical header. Part of the format: changing it makes another version.
const PRIMER: &str = include_str!("primer.txt");

const ORDERS: usize = 6;
const SLOTS: usize = 1 << 16;
const MASK: u32 = SLOTS as u32 - 1;

/// Codes bytes one after the other.
pub(super) struct TextCoder {
    mixed: Mixed<ORDERS>,
    /// The last eight bytes, the latest lowest.
    history: u64,
    /// A hash of the current word.
    word: u32,
}

/// Codes nothing: what is learnt is the primer itself.
struct Silent;

impl Bits for Silent {
    fn code(&mut self, _one: u32, bit: bool) -> Option<bool> {
        Some(bit)
    }
}

impl TextCoder {
    pub fn new() -> Self {
        let mut coder = Self { mixed: Mixed::new([256 * 256, SLOTS, SLOTS, SLOTS, SLOTS, SLOTS], 256, 30), history: 0, word: 0 };
        PRIMER.bytes().for_each(|b| {
            coder.byte(&mut Silent, b);
        });
        coder
    }

    /// Codes one byte.
    pub fn byte(&mut self, bits: &mut impl Bits, byte: u8) -> Option<u8> {
        let hash = |order: u32, text: u64| {
            let h = (text ^ (order as u64) << 59).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (h >> 32) as u32
        };
        let last = |n: u32| self.history & (u64::MAX >> (64 - 8 * n));
        let bases =
            [hash(2, last(2)), hash(3, last(3)), hash(4, last(4)), hash(6, last(6)), hash(7, self.word as u64 | last(1) << 32)];
        let first = (self.history & 255) as usize * 256;
        let mut node = 1usize;
        for level in (0..8).rev() {
            let slot = |base: u32| (base.wrapping_add((node as u32).wrapping_mul(0x9e35_79b1)) >> 3 & MASK) as usize;
            let contexts = [first + node, slot(bases[0]), slot(bases[1]), slot(bases[2]), slot(bases[3]), slot(bases[4])];
            let bit = self.mixed.code(bits, contexts, node, byte >> level & 1 == 1)?;
            node = node << 1 | bit as usize;
        }
        let byte = (node & 255) as u8;
        self.history = self.history << 8 | byte as u64;
        self.word =
            if byte.is_ascii_alphabetic() { (self.word.wrapping_add(byte as u32 + 1)).wrapping_mul(0x2f0b_4c47) } else { 0 };
        Some(byte)
    }
}
