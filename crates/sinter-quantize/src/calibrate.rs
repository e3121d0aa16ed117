//! Ranges of activations from a stream of samples, in memory that does not grow with their number.

use crate::config::Calibration;

const BINS: usize = 2048;

/// Watches one value.
#[derive(Debug)]
pub struct Observer {
    method: Calibration,
    low: f32,
    high: f32,
    histogram: Histogram,
}

impl Observer {
    /// Nothing seen yet.
    pub fn new(method: Calibration) -> Self {
        Self { method, low: f32::INFINITY, high: f32::NEG_INFINITY, histogram: Histogram::default() }
    }

    /// Takes in one batch of elements; those that are not finite are passed over.
    pub fn observe(&mut self, values: &[f32]) {
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        for &v in values.iter().filter(|v| v.is_finite()) {
            low = low.min(v);
            high = high.max(v);
        }
        if low > high {
            return;
        }
        self.low = self.low.min(low);
        self.high = self.high.max(high);
        if self.method != Calibration::MinMax {
            self.histogram.add(values, low, high);
        }
    }

    /// The range to quantize to `bits`; (0, 0) when nothing was seen.
    pub fn range(&self, bits: u8) -> (f32, f32) {
        if self.low > self.high {
            return (0.0, 0.0);
        }
        match self.method {
            Calibration::MinMax => (self.low, self.high),
            Calibration::Percentile => self.histogram.percentile(1e-4, self.low, self.high),
            Calibration::Mse => self.histogram.least_squares(bits, self.low, self.high),
        }
    }
}

/// Counts over a symmetric-about-its-centre range that doubles when a value falls outside: pairs of bins merge, so old counts stay right.
#[derive(Debug, Default)]
struct Histogram {
    start: f64,
    width: f64,
    counts: Vec<u64>,
}

impl Histogram {
    fn add(&mut self, values: &[f32], low: f32, high: f32) {
        let (low, high) = (low as f64, high as f64);
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
        let factor = 1.0 / self.width;
        for &v in values.iter().filter(|v| v.is_finite()) {
            let bin = ((v as f64 - self.start) * factor) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
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
        let filled: Vec<(f64, f64)> =
            (0..BINS).filter(|&b| self.counts[b] > 0).map(|b| (self.centre(b), self.counts[b] as f64)).collect();
        let error = |low: f64, high: f64| {
            let step = ((high.max(0.0) - low.min(0.0)) / levels).max(1e-30);
            let (low, high) = (low.min(0.0), high.max(0.0));
            // Inside a bin values spread evenly; the rounding error of a step is step^2 / 12.
            let each = filled.iter().map(|&(x, n)| {
                let out = if x < low {
                    low - x
                } else if x > high {
                    x - high
                } else {
                    0.0
                };
                n * if out > 0.0 { out * out + step * step / 12.0 } else { step * step / 12.0 }
            });
            each.sum::<f64>()
        };
        let (mut low, mut high) = (low as f64, high as f64);
        let mut best = error(low, high);
        let steps = 128;
        let (full_low, full_high) = (low, high);
        for i in 1..steps {
            let share = 1.0 - i as f64 / steps as f64;
            let e = error(low, full_high * share);
            if full_high > 0.0 && e < best {
                best = e;
                high = full_high * share;
            }
        }
        for i in 1..steps {
            let share = 1.0 - i as f64 / steps as f64;
            let e = error(full_low * share, high);
            if full_low < 0.0 && e < best {
                best = e;
                low = full_low * share;
            }
        }
        (low as f32, high as f32)
    }
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
                observer.observe(&values);
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

    #[test]
    fn an_outlier_is_clipped_by_mse_and_kept_by_min_max() {
        let mut values: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        values.push(100.0);
        let range = |method| {
            let mut observer = Observer::new(method);
            observer.observe(&values);
            observer.range(4)
        };
        assert_eq!(range(Calibration::MinMax).1, 100.0);
        assert!(range(Calibration::Mse).1 < 10.0);
        assert!(range(Calibration::Percentile).1 < 2.0);
    }

    #[test]
    fn nothing_seen_gives_an_empty_range() {
        assert_eq!(Observer::new(Calibration::Mse).range(8), (0.0, 0.0));
    }
}
