//! Ranges of activations from a stream of samples, in memory that does not grow with their number.

use rayon::prelude::*;

use crate::config::Calibration;

const BINS: usize = 2048;
/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 16;
/// Of batches of more elements than this a histogram counts one run in four, other ones each time: that tells the same in less time.
const MANY: usize = 1 << 18;
const RUN: usize = 1024;
/// Candidates between the whole range and nothing.
const STEPS: usize = 128;
/// How much a new sample moves a moving average at least.
const MOVE: f32 = 0.002;

/// Watches one value.
#[derive(Debug)]
pub struct Observer {
    method: Calibration,
    low: f32,
    high: f32,
    histogram: Histogram,
    samples: u64,
}

impl Observer {
    /// Nothing seen yet.
    pub fn new(method: Calibration) -> Self {
        Self { method, low: f32::INFINITY, high: f32::NEG_INFINITY, histogram: Histogram::default(), samples: 0 }
    }

    /// Takes in the elements of a batch of so many samples; those that are not finite are passed over.
    pub fn observe(&mut self, values: &[f32], samples: usize) {
        if self.method == Calibration::MovingAverage {
            let each = values.len().div_ceil(samples.max(1)).max(1);
            values.chunks(each).for_each(|sample| self.average(extremes(sample)));
            return;
        }
        let seen = extremes(values);
        if seen.low > seen.high {
            return;
        }
        self.low = self.low.min(seen.low);
        self.high = self.high.max(seen.high);
        if matches!(self.method, Calibration::Percentile | Calibration::Entropy | Calibration::Mse) {
            match seen.all_finite {
                true => self.histogram.add(values, seen),
                false => self.histogram.add(&values.iter().copied().filter(|v| v.is_finite()).collect::<Vec<_>>(), seen),
            }
        }
    }

    /// Takes in the extremes of one sample.
    fn average(&mut self, seen: Seen) {
        if seen.low > seen.high {
            return;
        }
        self.samples += 1;
        // The mean of the first, then one that forgets.
        let share = (1.0 / self.samples as f32).max(MOVE);
        let first = self.samples == 1;
        self.low = if first { seen.low } else { self.low + share * (seen.low - self.low) };
        self.high = if first { seen.high } else { self.high + share * (seen.high - self.high) };
    }

    /// The least and the greatest that was seen (of moving averages: their means); `None` before anything was.
    pub fn seen(&self) -> Option<(f32, f32)> {
        (self.low <= self.high).then_some((self.low, self.high))
    }

    /// The range to quantize to `bits`; (0, 0) when nothing was seen.
    pub fn range(&self, bits: u8) -> (f32, f32) {
        if self.low > self.high {
            return (0.0, 0.0);
        }
        match self.method {
            Calibration::MinMax | Calibration::MovingAverage => (self.low, self.high),
            Calibration::Percentile => self.histogram.percentile(1e-4, self.low, self.high),
            Calibration::Entropy => self.histogram.least_divergence(bits, self.low, self.high),
            Calibration::Mse => self.histogram.least_squares(bits, self.low, self.high),
        }
    }
}

/// What one look at a batch tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub low: f32,
    pub high: f32,
    all_finite: bool,
}

/// The smallest and the largest element that are finite; the smallest above the largest when there are none.
pub(crate) fn extremes(values: &[f32]) -> Seen {
    let none = Seen { low: f32::INFINITY, high: f32::NEG_INFINITY, all_finite: true };
    let both =
        |a: Seen, b: Seen| Seen { low: a.low.min(b.low), high: a.high.max(b.high), all_finite: a.all_finite && b.all_finite };
    let seen = values.par_chunks(CHUNK).map(all_extremes).reduce(|| none, both);
    if seen.all_finite {
        return seen;
    }
    let finite = |part: &[f32]| {
        part.iter().fold(none, |seen, &v| match v.is_finite() {
            true => both(seen, Seen { low: v, high: v, all_finite: true }),
            false => Seen { all_finite: false, ..seen },
        })
    };
    values.par_chunks(CHUNK).map(finite).reduce(|| none, both)
}

/// The same with infinities, several elements side by side. Comparisons with NaN are false, so it never wins; but what is not finite
/// leaves no zero when multiplied by zero.
fn all_extremes(values: &[f32]) -> Seen {
    const LANES: usize = 16;
    let (mut low, mut high, mut nothing) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0.0f32; LANES]);
    let mut look = |part: &[f32]| {
        for (v, ((low, high), nothing)) in part.iter().zip(low.iter_mut().zip(&mut high).zip(&mut nothing)) {
            *low = if *v < *low { *v } else { *low };
            *high = if *v > *high { *v } else { *high };
            *nothing += *v * 0.0;
        }
    };
    let parts = values.chunks_exact(LANES);
    look(parts.remainder());
    parts.for_each(look);
    Seen {
        low: low.into_iter().fold(f32::INFINITY, f32::min),
        high: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        all_finite: nothing.iter().all(|n| *n == 0.0),
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

/// Counts over a range that doubles when a value falls outside: pairs of bins merge, so old counts stay right.
#[derive(Debug, Default)]
struct Histogram {
    start: f64,
    width: f64,
    counts: Vec<u64>,
    /// Those that are exactly zero: every grid holds them without error.
    zeros: u64,
    /// Batches so far.
    turn: usize,
}

impl Histogram {
    fn add(&mut self, values: &[f32], seen: Seen) {
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

    fn centre(&self, bin: usize) -> f64 {
        self.start + (bin as f64 + 0.5) * self.width
    }

    /// The bin of a value inside the range.
    fn bin(&self, value: f64) -> usize {
        (((value - self.start) / self.width).max(0.0) as usize).min(BINS - 1)
    }

    fn percentile(&self, share: f64, low: f32, high: f32) -> (f32, f32) {
        let total: u64 = self.counts.iter().sum();
        let cut = (total as f64 * share) as u64;
        let edge = |mut bins: Vec<usize>| {
            let mut sum = 0;
            bins.drain(..).find(|&b| {
                sum += self.counts[b];
                sum > cut
            })
        };
        let from = edge((0..BINS).collect()).map_or(low, |b| (self.centre(b) - 0.5 * self.width) as f32);
        let to = edge((0..BINS).rev().collect()).map_or(high, |b| (self.centre(b) + 0.5 * self.width) as f32);
        (from.max(low), to.min(high))
    }

    /// The range, shrunk from both sides in turn, whose rounding plus clipping error is least.
    fn least_squares(&self, bits: u8, low: f32, high: f32) -> (f32, f32) {
        let levels = ((1u64 << bits) - 1) as f64;
        // Counts, and the first two moments of what they count around the middle, where they cancel least.
        let middle = self.centre(BINS / 2);
        let moments = |b: usize| {
            let (n, x) = (self.counts[b] as f64, self.centre(b) - middle);
            [n, n * x, n * x * x]
        };
        let sums = running((0..BINS).map(moments));
        let all = sums[BINS];
        let rounded = all[0] - self.zeros as f64;
        let squares = |[n, x, xx]: [f64; 3], edge: f64| (xx - 2.0 * edge * x + edge * edge * n).max(0.0);
        // Bins whose centre lies below a value.
        let before = |value: f64| (((value - self.start) / self.width - 0.5).ceil().max(0.0) as usize).min(BINS);
        shrink(low, high, |low, high| {
            let (low, high) = (low.min(0.0), high.max(0.0));
            let step = ((high - low) / levels).max(1e-30);
            let below = squares(sums[before(low)], low - middle);
            let above = squares(difference(all, sums[before(high)]), high - middle);
            // Inside a bin values spread evenly; the rounding error of a step is step^2 / 12.
            rounded * step * step / 12.0 + below + above
        })
    }

    /// The range, shrunk from both sides in turn, whose quantized distribution diverges least from the one seen: what is clipped counts
    /// at the edge, and the bins of one level share their counts evenly.
    fn least_divergence(&self, bits: u8, low: f32, high: f32) -> (f32, f32) {
        let levels = 1usize << bits;
        let mut counts: Vec<f64> = self.counts.iter().map(|&c| c as f64).collect();
        // Zero is exact on every grid and often half of all: what it would hide is left to the others.
        let at_zero = self.bin(0.0);
        counts[at_zero] = (counts[at_zero] - self.zeros as f64).max(0.0);
        let sums = running(counts.iter().map(|&c| if c > 0.0 { [c, c * c.ln(), 1.0] } else { [0.0; 3] }));
        let total = sums[BINS][0];
        if total <= 0.0 {
            return (low, high);
        }
        shrink(low, high, |low, high| {
            let (first, last) = (self.bin(low), self.bin(high));
            let n = last + 1 - first;
            let levels = levels.min(n);
            let mut divergence = 0.0;
            for level in 0..levels {
                let (from, to) = (first + level * n / levels, first + (level + 1) * n / levels);
                let [sum, own, filled] = difference(sums[to], sums[from]);
                let share = if filled > 0.0 { sum / filled } else { 1.0 };
                divergence += own - sum * share.ln();
                // What was clipped joins the bins at the ends.
                let below = if level == 0 { sums[first][0] } else { 0.0 };
                let above = if level == levels - 1 { total - sums[last + 1][0] } else { 0.0 };
                let ends: &[(usize, f64)] =
                    if first == last { &[(first, below + above)] } else { &[(first, below), (last, above)] };
                for &(bin, clipped) in ends.iter().filter(|e| e.1 > 0.0) {
                    let count = counts[bin];
                    // A bin without counts of its own gives what was clipped into it next to nothing.
                    let (before, q) = if count > 0.0 { (count * (count / share).ln(), share) } else { (0.0, 1e-9 * total) };
                    divergence += (count + clipped) * ((count + clipped) / q).ln() - before;
                }
            }
            divergence / total
        })
    }
}

/// Sums of the first 0, 1, 2 and so on.
fn running(values: impl Iterator<Item = [f64; 3]>) -> Vec<[f64; 3]> {
    let mut sum = [0.0; 3];
    let sums = values.map(|v| {
        sum = std::array::from_fn(|i| sum[i] + v[i]);
        sum
    });
    std::iter::once([0.0; 3]).chain(sums).collect()
}

fn difference(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] - b[i])
}

/// Shrinks the upper end, then the lower, to where `cost` is least; an end at zero or beyond stays.
fn shrink(low: f32, high: f32, cost: impl Fn(f64, f64) -> f64 + Sync) -> (f32, f32) {
    let (low, high) = (low as f64, high as f64);
    let share = |i: usize| 1.0 - i as f64 / STEPS as f64;
    // The least that costs less than the whole does, the widest of equals.
    let least = |ends: &(dyn Fn(usize) -> (f64, f64) + Sync)| {
        let costs: Vec<f64> = (0..STEPS).into_par_iter().map(|i| cost(ends(i).0, ends(i).1)).collect();
        ends((1..STEPS).fold(0, |best, i| if costs[i] < costs[best] { i } else { best }))
    };
    let (_, high) = if high > 0.0 { least(&|i| (low, high * share(i))) } else { (low, high) };
    let (low, high) = if low < 0.0 { least(&|i| (low * share(i), high)) } else { (low, high) };
    (low as f32, high as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the values are cut into batches, every one is counted, in a bin that holds it.
        #[test]
        fn counts_survive_doubling(batches in proptest::collection::vec(proptest::collection::vec(-1000i32..1000, 1..20), 1..10)) {
            let mut observer = Observer::new(Calibration::Mse);
            let mut all = Vec::new();
            for batch in &batches {
                let values: Vec<f32> = batch.iter().map(|&v| v as f32 * 0.37).collect();
                observer.observe(&values, 1);
                all.extend(values);
            }
            let h = &observer.histogram;
            prop_assert_eq!(h.counts.iter().sum::<u64>() as usize, all.len());
            let mean: f64 = all.iter().map(|&v| v as f64).sum::<f64>() / all.len() as f64;
            let binned: f64 = (0..BINS).map(|b| h.counts[b] as f64 * h.centre(b)).sum::<f64>() / all.len() as f64;
            prop_assert!((mean - binned).abs() <= h.width);
            let (low, high) = (all.iter().copied().fold(f32::INFINITY, f32::min), all.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            prop_assert_eq!((observer.low, observer.high), (low, high));
        }
    }

    proptest! {
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

        /// Both costs are those of their definitions, bin by bin.
        #[test]
        fn sums_stand_for_bins(values in proptest::collection::vec(-200i32..1000, 50..400), bits in 2u8..9) {
            let values: Vec<f32> = values.iter().map(|&v| v.max(0) as f32 * (v % 7) as f32).collect();
            let mut observer = Observer::new(Calibration::Mse);
            observer.observe(&values, 1);
            let (h, low, high) = (&observer.histogram, observer.low, observer.high);
            let cost = |range: (f32, f32)| squares_by_bin(h, bits, range);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-9);
            let wanted = shrink(low, high, |l, r| cost((l as f32, r as f32)));
            prop_assert!(close(cost(h.least_squares(bits, low, high)), cost(wanted)));
            let cost = |range: (f32, f32)| divergence_by_bin(h, bits, range);
            let wanted = shrink(low, high, |l, r| cost((l as f32, r as f32)));
            prop_assert!(close(cost(h.least_divergence(bits, low, high)), cost(wanted)));
        }
    }

    fn squares_by_bin(h: &Histogram, bits: u8, (low, high): (f32, f32)) -> f64 {
        let (low, high) = (low.min(0.0) as f64, high.max(0.0) as f64);
        let step = ((high - low) / ((1u64 << bits) - 1) as f64).max(1e-30);
        let rounded = (h.counts.iter().sum::<u64>() - h.zeros) as f64;
        let clipped = |b: usize| h.counts[b] as f64 * (low - h.centre(b)).max(h.centre(b) - high).max(0.0).powi(2);
        rounded * step * step / 12.0 + (0..BINS).map(clipped).sum::<f64>()
    }

    fn divergence_by_bin(h: &Histogram, bits: u8, (low, high): (f32, f32)) -> f64 {
        let mut counts: Vec<f64> = h.counts.iter().map(|&c| c as f64).collect();
        counts[h.bin(0.0)] -= h.zeros as f64;
        let total: f64 = counts.iter().sum();
        if total <= 0.0 {
            return 0.0;
        }
        let (first, last) = (h.bin(low as f64), h.bin(high as f64));
        let mut p = counts[first..=last].to_vec();
        let n = p.len();
        p[0] += counts[..first].iter().sum::<f64>();
        p[n - 1] += counts[last + 1..].iter().sum::<f64>();
        let levels = (1usize << bits).min(n);
        let level_of = |bins: std::ops::Range<usize>| {
            let inside = &counts[first..=last][bins.clone()];
            let share = inside.iter().sum::<f64>() / inside.iter().filter(|c| **c > 0.0).count().max(1) as f64 / total;
            let q = move |c: f64| if c > 0.0 { share } else { 1e-9 };
            bins.zip(inside).map(|(i, &c)| if p[i] > 0.0 { p[i] / total * (p[i] / total / q(c)).ln() } else { 0.0 }).sum::<f64>()
        };
        (0..levels).map(|l| level_of(l * n / levels..(l + 1) * n / levels)).sum()
    }

    #[test]
    fn an_outlier_is_clipped_by_mse_and_kept_by_min_max() {
        let mut values: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        values.push(100.0);
        let range = |method| {
            let mut observer = Observer::new(method);
            observer.observe(&values, 1);
            observer.range(4)
        };
        assert_eq!(range(Calibration::MinMax).1, 100.0);
        assert!(range(Calibration::Mse).1 < 10.0);
        assert!(range(Calibration::Percentile).1 < 2.0);
        assert!(range(Calibration::Entropy).1 < 50.0);
    }

    #[test]
    fn exact_zeros_do_not_widen_the_range() {
        // Half zeros, as after a ReLU: the range is that of the others alone.
        let others: Vec<f32> = (0..5_000).map(|i| (i as f32 / 5_000.0).powi(3) * 4.0).collect();
        let range = |values: &[f32]| {
            let mut observer = Observer::new(Calibration::Mse);
            observer.observe(values, 1);
            observer.range(2).1
        };
        let (alone, mixed) = (range(&others), range(&[others.clone(), vec![0.0; 45_000]].concat()));
        assert!((alone - mixed).abs() < 0.1, "{alone} {mixed}");
    }

    #[test]
    fn a_moving_average_forgets() {
        let mut observer = Observer::new(Calibration::MovingAverage);
        observer.observe(&[-100.0, 100.0], 1);
        (0..600).for_each(|_| observer.observe(&[-1.0, 1.0, -0.5, 1.0], 2));
        let (low, high) = observer.range(8);
        assert!((-0.85..-0.75).contains(&low) && (1.0..1.1).contains(&high), "{low} {high}");
    }

    #[test]
    fn what_is_not_finite_is_passed_over() {
        for method in [Calibration::MinMax, Calibration::Mse] {
            let mut observer = Observer::new(method);
            observer.observe(&[f32::NAN, 1.0, f32::INFINITY, -2.0, f32::NEG_INFINITY], 1);
            assert_eq!((observer.low, observer.high), (-2.0, 1.0));
            assert!(observer.histogram.counts.iter().sum::<u64>() == 2 || method == Calibration::MinMax);
        }
    }

    #[test]
    fn nothing_seen_gives_an_empty_range() {
        assert_eq!(Observer::new(Calibration::Mse).range(8), (0.0, 0.0));
    }
}
