//! Counts of values over a range that grows as needed, in one streaming pass.

use rayon::prelude::*;

use crate::extremes::Extremes;
use crate::sketch::Sketch;

/// Bins of a histogram.
const BINS: usize = 2048;
/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 16;
/// Of batches of more elements than this a histogram counts one run in four, other ones each time: that tells the same in less time.
const MANY: usize = 1 << 18;
const RUN: usize = 1024;

/// Counts over a range that doubles when a value falls outside: pairs of bins merge, so old counts stay right.
#[derive(Debug, Default)]
pub struct Histogram {
    start: f64,
    width: f64,
    counts: Vec<u64>,
    /// Those that are exactly zero: every quantizer holds them without error.
    zeros: u64,
    /// Batches so far.
    turn: usize,
    /// The same values, however far apart they are.
    sketch: Sketch,
}

/// The share of values on each side that may be called outliers.
const OUTLIERS: f64 = 5e-4;
/// How far around the bulk a histogram looks that leaves out outliers, in widths of the bulk on each side.
const AROUND: f64 = 1.0;

/// A histogram of the bulk of the values, because outliers left no bins to tell it by.
#[derive(Debug)]
pub struct Focused {
    /// Counts around the bulk; what lies beyond is in the bins at the ends.
    pub histogram: Histogram,
    /// The ends of it, no further than what was seen.
    pub seen: (f32, f32),
    /// Between which ends all but a thousandth of the values lie.
    pub bulk: (f32, f32),
}

impl Histogram {
    /// The number of bins.
    pub const BINS: usize = BINS;

    /// Takes in finite values with these extremes.
    pub(crate) fn add(&mut self, values: &[f32], seen: Extremes) {
        let (low, high) = (seen.low as f64, seen.high as f64);
        if self.counts.is_empty() {
            let span = (high - low).max(1e-6 * high.abs().max(low.abs()).max(1e-6));
            self.start = low;
            self.width = span * (1.0 + 1e-6) / BINS as f64;
            self.counts = vec![0; BINS];
        }
        while low < self.start {
            self.double(true);
        }
        while high >= self.start + self.width * BINS as f64 {
            self.double(false);
        }
        let all = values.len() <= MANY;
        let runs = values.chunks(RUN).enumerate().filter(|(i, _)| all || quarter(*i) == self.turn % 4);
        let runs: Vec<&[f32]> = runs.map(|(_, run)| run).collect();
        // A fraction of a large batch tells the bulk as well.
        let few = runs.iter().enumerate().filter(|(i, _)| all || quarter(*i + 1) == self.turn % 4);
        self.sketch.add(few.flat_map(|(_, run)| run.iter()));
        self.turn += 1;
        let (factor, start) = ((1.0 / self.width) as f32, self.start as f32);
        let count = |runs: &[&[f32]]| {
            // Several tables, since neighbours often fall into one bin and would wait for each other.
            let (mut tables, mut zeros) = ([[0u32; BINS]; 4], 0u64);
            let mut places = [0u32; RUN];
            for run in runs {
                // Bins first, several at a time, then counts.
                places.iter_mut().zip(*run).for_each(|(place, v)| *place = whole_part((v - start) * factor));
                zeros += run.iter().map(|v| (*v == 0.0) as u32).sum::<u32>() as u64;
                for four in places[..run.len()].chunks(4) {
                    tables.iter_mut().zip(four).for_each(|(table, &place)| table[place as usize % BINS] += 1);
                }
            }
            ((0..BINS).map(|b| tables.iter().map(|t| t[b] as u64).sum()).collect::<Vec<u64>>(), zeros)
        };
        let add = |(mut a, zeros): (Vec<u64>, u64), (b, more): (Vec<u64>, u64)| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            (a, zeros + more)
        };
        let share = runs.len().div_ceil(rayon::current_num_threads()).max(CHUNK / RUN);
        let found = runs.par_chunks(share).map(count).reduce(|| (vec![0; BINS], 0), add);
        (self.counts, self.zeros) = add((std::mem::take(&mut self.counts), self.zeros), found);
    }

    /// The same values seen closer, where the bulk of them fills fewer than `least` bins.
    pub fn focus(&self, least: f64) -> Option<Focused> {
        let bulk = self.sketch.bulk(OUTLIERS)?;
        let (low, high) = (f64::from(bulk.0), f64::from(bulk.1));
        if (high - low) / self.width >= least || high <= low {
            return None;
        }
        let (first, last) = (self.start, self.start + self.width * BINS as f64);
        let ends = ((low - AROUND * (high - low)).max(first), (high + AROUND * (high - low)).min(last));
        let (start, width) = (ends.0, (ends.1 - ends.0) * (1.0 + 1e-6) / BINS as f64);
        let mut found = Self { start, width, counts: vec![0; BINS], ..Self::default() };
        for (low, high, count) in self.sketch.bins() {
            if low == high {
                found.zeros += count;
            }
            // A bin of the sketch is spread evenly over what it covers.
            let (from, to) = (found.bin(f64::from(low)), found.bin(f64::from(high)));
            let bins = (to - from + 1) as u64;
            let part = |i: u64| count * i / bins;
            (0..bins).for_each(|i| found.counts[from + i as usize] += part(i + 1) - part(i));
        }
        Some(Focused { histogram: found, seen: (ends.0 as f32, ends.1 as f32), bulk })
    }

    /// Twice the range, to the left or to the right.
    fn double(&mut self, left: bool) {
        let merged: Vec<u64> = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
        let empty = vec![0; BINS / 2];
        self.counts = if left { [empty, merged].concat() } else { [merged, empty].concat() };
        if left {
            self.start -= self.width * BINS as f64;
        }
        self.width *= 2.0;
    }

    /// Values in each bin; none before anything was seen.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Of those, the values that are exactly zero.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Where the first bin starts.
    pub fn start(&self) -> f64 {
        self.start
    }

    /// The width of a bin.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// The middle of a bin.
    pub fn centre(&self, bin: usize) -> f64 {
        self.start + (bin as f64 + 0.5) * self.width
    }

    /// The bin of a value inside the range.
    pub fn bin(&self, value: f64) -> usize {
        (((value - self.start) / self.width).max(0.0) as usize).min(BINS - 1)
    }
}

/// The whole part of a number between 0 and `BINS`, a little beyond either end included. Adding 2^23 leaves the nearest integer in the
/// lowest bits of a float32, for several numbers at once, where a cast would take them one by one.
fn whole_part(x: f32) -> u32 {
    const SHIFT: f32 = 8_388_608.0;
    ((x - 0.5).clamp(0.0, (BINS - 1) as f32) + SHIFT).to_bits() & (BINS as u32 - 1)
}

/// Which of four equal shares a run belongs to: by a hash, since channels and rows repeat at even distances.
fn quarter(run: usize) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (run as u64).wrapping_mul(GOLDEN);
    ((mixed ^ (mixed >> 32)).wrapping_mul(GOLDEN) >> 62) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::{Observer, Watch};
    use proptest::prelude::*;

    proptest! {
        /// However the values are cut into batches, every one is counted, in a bin that holds it.
        #[test]
        fn counts_survive_doubling(batches in proptest::collection::vec(proptest::collection::vec(-1000i32..1000, 1..20), 1..10)) {
            let mut observer = Observer::new(Watch::Histogram);
            let mut all = Vec::new();
            for batch in &batches {
                let values: Vec<f32> = batch.iter().map(|&v| v as f32 * 0.37).collect();
                observer.observe(&values, 1);
                all.extend(values);
            }
            let h = observer.histogram();
            prop_assert_eq!(h.counts.iter().sum::<u64>() as usize, all.len());
            let mean: f64 = all.iter().map(|&v| v as f64).sum::<f64>() / all.len() as f64;
            let binned: f64 = (0..BINS).map(|b| h.counts[b] as f64 * h.centre(b)).sum::<f64>() / all.len() as f64;
            prop_assert!((mean - binned).abs() <= h.width);
            let (low, high) = (all.iter().copied().fold(f32::INFINITY, f32::min), all.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            prop_assert_eq!(observer.seen(), Some((low, high)));
        }

        /// Bins of numbers inside the range are those of a cast; what lies a little outside goes to the ends.
        #[test]
        fn bins_are_whole_parts(x in -0.01f32..(BINS as f32 + 0.01)) {
            let cast = (x.max(0.0) as usize).min(BINS - 1) as u32;
            // Next to a whole number either neighbour is right.
            prop_assert!(whole_part(x) == cast || ((x - x.round()).abs() < 1e-3 && whole_part(x).abs_diff(cast) == 1), "{x}: {}", whole_part(x));
        }

        /// Whatever the period of the data, a quarter of the runs shows every phase of it.
        #[test]
        fn quarters_spread(period in 1usize..65, turn in 0usize..4) {
            let runs = 64 * period;
            let shown = |phase: usize| (phase..runs).step_by(period).filter(|&i| quarter(i) == turn).count();
            for phase in 0..period {
                prop_assert!((4..=32).contains(&shown(phase)), "{phase} of {period}: {}", shown(phase));
            }
        }
    }
}
