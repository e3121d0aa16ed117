//! Sequences of small numbers as adaptively coded bits.

use super::coder::{Bits, Counter};
use super::mixing::Mixed;

/// Counters of symbols average over so many bits: weights hardly change their nature along a tensor.
pub(super) const LIMIT: u16 = 1023;
/// Larger tensors are coded in fewer contexts, in pieces that several threads read.
const MIXED: usize = 1 << 20;
/// Elements of such a piece.
pub(super) const PIECE: usize = 1 << 18;
/// Larger tables are coded in fewer contexts.
const MIXED_TABLE: usize = 1024;

/// What is known of a sequence of indices before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Values that an index may have: 0 to `values - 1`.
    pub values: usize,
    /// Index 0 is so common that a flag of its own pays.
    pub zeros: bool,
    /// Elements of a row.
    pub columns: usize,
    /// Columns so far apart resemble each other (the row of an image, the area of a kernel); 0 if none do.
    pub stride: usize,
}

impl Layout {
    /// Whether so many elements are coded with all contexts, in the common stream.
    pub fn is_mixed(&self, count: usize) -> bool {
        count <= MIXED && self.values <= MIXED_TABLE
    }

    fn depth(&self) -> u32 {
        usize::BITS - self.values.saturating_sub(1).leading_zeros()
    }
}

/// Codes indices with counters alone: quick.
pub(super) struct PlainIndices {
    layout: Layout,
    flags: [Counter; 4],
    tree: Vec<Counter>,
    history: usize,
}

impl PlainIndices {
    pub fn new(layout: Layout) -> Self {
        Self { layout, flags: Default::default(), tree: vec![Counter::default(); 1 << layout.depth()], history: 0 }
    }

    pub fn code(&mut self, bits: &mut impl Bits, index: u32) -> Option<u32> {
        if self.layout.zeros {
            let is_zero = self.flags[self.history].code(bits, index == 0, LIMIT)?;
            self.history = (self.history << 1 | is_zero as usize) & 3;
            if is_zero {
                return Some(0);
            }
        }
        let depth = self.layout.depth();
        let mut node = 1usize;
        for level in (0..depth).rev() {
            let bit = self.tree[node].code(bits, index >> level & 1 == 1, LIMIT)?;
            node = node << 1 | bit as usize;
        }
        Some((node - (1 << depth)) as u32)
    }
}

/// Levels of [`rarity`].
const RARE: usize = 24;

/// How rare something is that was seen `count` times of `total`, in half powers of two: 0 to `RARE - 1`.
fn rarity(count: u32, total: u32) -> usize {
    let x = (total as u64 + 2) * 4 / (2 * count as u64 + 1);
    ((x * x).max(1).ilog2() as usize).min(RARE - 1)
}

#[derive(Clone, Copy, Default)]
struct Column {
    /// Elements other than zero so far.
    full: u32,
    /// Whether the last elements were, the latest lowest.
    flags: u8,
    /// The last element other than zero.
    last: u32,
}

/// Codes indices in contexts of their row, their column and the columns beside it: a weight is likely to be zero where its input or its
/// output is hardly used.
pub(super) struct MixedIndices {
    layout: Layout,
    flags: Mixed<6>,
    tree: Mixed<4>,
    columns: Vec<Column>,
    row: u32,
    column: usize,
    /// Of the current row.
    full: u32,
    history: usize,
    since: usize,
    last: u32,
}

/// The upper bits of symbols that serve as context.
const CONTEXT_BITS: u32 = 4;

impl MixedIndices {
    pub fn new(layout: Layout) -> Self {
        let half = RARE / 2;
        let period = layout.stride.clamp(1, 64);
        let flags = [256, RARE * RARE, half * half * half, 512, RARE * half * half, period * RARE];
        let nodes = 1 << layout.depth();
        let near = 1 << CONTEXT_BITS;
        Self {
            layout,
            flags: Mixed::new(flags, RARE, 255),
            tree: Mixed::new([nodes, nodes * near, nodes * near, nodes * near], layout.depth() as usize + 1, LIMIT),
            columns: vec![Column::default(); layout.columns.max(1)],
            row: 0,
            column: 0,
            full: 0,
            history: 0,
            since: 0,
            last: 0,
        }
    }

    pub fn code(&mut self, bits: &mut impl Bits, index: u32) -> Option<u32> {
        let index = self.element(bits, index)?;
        let full = !self.layout.zeros || index != 0;
        let column = &mut self.columns[self.column];
        column.flags = column.flags << 1 | full as u8;
        self.history = self.history << 1 | full as usize;
        self.since = if full { 0 } else { self.since + 1 };
        if full {
            column.full += 1;
            column.last = index;
            self.full += 1;
            self.last = index;
        }
        self.column += 1;
        if self.column == self.columns.len() {
            (self.column, self.full, self.history, self.since) = (0, 0, 0, 0);
            self.row += 1;
        }
        Some(index)
    }

    fn element(&mut self, bits: &mut impl Bits, index: u32) -> Option<u32> {
        let at = self.column;
        let own = self.columns[at];
        let beside = |offset: isize| -> Column {
            let other = at.checked_add_signed(offset);
            other.and_then(|i| self.columns.get(i)).copied().unwrap_or_default()
        };
        // Columns before this one have one element more.
        let rare = |c: Column, ahead: bool| rarity(c.full, self.row + ahead as u32);
        let column = rare(own, false);
        if self.layout.zeros {
            let (left, right) = (beside(-1), beside(1));
            let stride = self.layout.stride as isize;
            let (up, down) = if stride > 1 { (beside(-stride), beside(stride)) } else { (beside(-2), beside(2)) };
            let half = RARE / 2;
            let across = rarity(self.full, at as u32);
            let near = (own.flags as usize & 7) << 5 | (left.flags as usize & 3) << 3 | (right.flags as usize & 3) << 1;
            let period = self.layout.stride.clamp(1, 64);
            let contexts = [
                (self.history & 15) << 4 | (usize::BITS - self.since.leading_zeros()).min(15) as usize,
                column * RARE + across,
                (column / 2 * half + rare(left, true) / 2) * half + rare(right, false) / 2,
                near | (self.history & 1) | (up.flags as usize & 1) << 8,
                (column * half + rare(up, true) / 2) * half + rare(down, false) / 2,
                at % period * RARE + column,
            ];
            let full = self.flags.code(bits, contexts, column, index != 0)?;
            if !full {
                return Some(0);
            }
        }
        let depth = self.layout.depth();
        let top = |symbol: u32| (symbol >> depth.saturating_sub(CONTEXT_BITS)) as usize & 15;
        let (row, above) = (top(self.last), top(own.last));
        let both = (row >> 2) << 2 | above >> 2;
        let mut node = 1usize;
        for level in (0..depth).rev() {
            let contexts = [node, node << CONTEXT_BITS | row, node << CONTEXT_BITS | above, node << CONTEXT_BITS | both];
            let bit = self.tree.code(bits, contexts, level as usize, index >> level & 1 == 1)?;
            node = node << 1 | bit as usize;
        }
        Some((node - (1 << depth)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::coder::{Decoder, Encoder};
    use super::*;
    use proptest::prelude::*;

    fn layout(values: usize, zeros: bool, columns: usize, stride: usize) -> Layout {
        Layout { values, zeros, columns, stride }
    }

    fn coded(indices: &[u32], layout: Layout) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut coder = MixedIndices::new(layout);
        indices.iter().for_each(|&i| {
            coder.code(&mut encoder, i).unwrap();
        });
        encoder.finish()
    }

    proptest! {
        #[test]
        fn indices_come_back(
            indices in proptest::collection::vec(0u32..37, 0..300), zeros in any::<bool>(), columns in 1usize..40, stride in 0usize..9,
        ) {
            let layout = layout(37, zeros, columns, stride);
            let bytes = coded(&indices, layout);
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut coder = MixedIndices::new(layout);
            for &i in &indices {
                prop_assert_eq!(coder.code(&mut decoder, 0), Some(i));
            }
            let mut encoder = Encoder::default();
            let mut coder = PlainIndices::new(layout);
            indices.iter().for_each(|&i| { coder.code(&mut encoder, i).unwrap(); });
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes).unwrap();
            let mut coder = PlainIndices::new(layout);
            for &i in &indices {
                prop_assert_eq!(coder.code(&mut decoder, 0), Some(i));
            }
        }
    }

    fn random(n: usize) -> impl Iterator<Item = u32> {
        let mut rng = fastrand::Rng::with_seed(12345);
        (0..n).map(move |_| rng.u32(..1 << 30))
    }

    #[test]
    fn a_sparse_sequence_comes_within_a_percent_of_its_entropy() {
        // 90 % zeros, the rest uniform over 15: H = 0.469 + 0.1 * log2(15) = 0.860 bit.
        let n = 400_000;
        let mut numbers = random(2 * n);
        let mut next = || numbers.next().unwrap_or(0);
        let indices: Vec<u32> = (0..n).map(|_| if next() % 10 == 0 { 1 + next() % 15 } else { 0 }).collect();
        let h = 0.46900 + 0.1 * 15f64.log2();
        let mut encoder = Encoder::default();
        let mut coder = PlainIndices::new(layout(16, true, 1000, 0));
        indices.iter().for_each(|&i| {
            coder.code(&mut encoder, i);
        });
        let plain = encoder.finish().len() as f64 * 8.0 / n as f64;
        let mixed = coded(&indices, layout(16, true, 1000, 0)).len() as f64 * 8.0 / n as f64;
        assert!(plain < h * 1.01 && mixed < h * 1.02, "{plain} and {mixed} bits a symbol, entropy {h}");
    }

    #[test]
    fn contexts_beat_the_entropy_where_inputs_are_unused() {
        // Three of four columns are all zero, the others half full.
        let mut numbers = random(300 * 200);
        let indices: Vec<u32> =
            (0..300 * 200).map(|i| if i % 200 % 4 == 0 { numbers.next().unwrap_or(0) % 2 } else { 0 }).collect();
        let bits = coded(&indices, layout(2, true, 200, 0)).len() as f64 * 8.0;
        let p: f64 = 1.0 / 8.0;
        let entropy = -(p * p.log2() + (1.0 - p) * (1.0 - p).log2()) * indices.len() as f64;
        assert!(bits < 0.6 * entropy, "{bits} bits, entropy {entropy}");
    }
}
