//! Least squared error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::{Histogram, Watch};

use super::RangeChoice;
use super::search::{difference, running, shrink};

/// The range of least squared error, of clipping and rounding together (Banner et al., 2019). The default: right for almost all values. Costs a
/// histogram and a search.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mse {}

impl RangeChoice for Mse {
    fn watch(&self) -> Watch {
        Watch::Histogram
    }

    fn least_bins(&self, bits: u8) -> f64 {
        // Squares weigh outliers rightly, until all others together are less than a step.
        Histogram::BINS as f64 / (1u64 << bits) as f64
    }

    fn choose(&self, seen: (f32, f32), histogram: &Histogram, bits: u8) -> (f32, f32) {
        let levels = ((1u64 << bits) - 1) as f64;
        // Counts, and the first two moments of what they count around the middle, where they cancel least.
        let middle = histogram.centre(Histogram::BINS / 2);
        let moments = |b: usize| {
            let (n, x) = (histogram.counts()[b] as f64, histogram.centre(b) - middle);
            [n, n * x, n * x * x]
        };
        let sums = running((0..Histogram::BINS).map(moments));
        let all = sums[Histogram::BINS];
        let rounded = all[0] - histogram.zeros() as f64;
        let squares = |[n, x, xx]: [f64; 3], edge: f64| (xx - 2.0 * edge * x + edge * edge * n).max(0.0);
        // Bins whose centre lies below a value.
        let before =
            |value: f64| (((value - histogram.start()) / histogram.width() - 0.5).ceil().max(0.0) as usize).min(Histogram::BINS);
        shrink(seen.0, seen.1, |low, high| {
            let step = ((high - low) / levels).max(1e-30);
            let below = squares(sums[before(low)], low - middle);
            let above = squares(difference(all, sums[before(high)]), high - middle);
            // Inside a bin values spread evenly; the rounding error of a step is step^2 / 12.
            rounded * step * step / 12.0 + below + above
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrations::search::costs_least;
    use proptest::prelude::*;
    use sinter_calibrate::Observer;

    fn squares_by_bin(h: &Histogram, bits: u8, (low, high): (f32, f32)) -> f64 {
        let (low, high) = (low.min(0.0) as f64, high.max(0.0) as f64);
        let step = ((high - low) / ((1u64 << bits) - 1) as f64).max(1e-30);
        let rounded = (h.counts().iter().sum::<u64>() - h.zeros()) as f64;
        let clipped = |b: usize| h.counts()[b] as f64 * (low - h.centre(b)).max(h.centre(b) - high).max(0.0).powi(2);
        rounded * step * step / 12.0 + (0..Histogram::BINS).map(clipped).sum::<f64>()
    }

    proptest! {
        /// The cost by running sums is that of its definition, bin by bin.
        #[test]
        fn sums_stand_for_bins(values in proptest::collection::vec(-200i32..1000, 50..400), bits in 2u8..9) {
            let least = costs_least(&Mse {}, squares_by_bin, &values, bits);
            prop_assert!(least);
        }
    }

    #[test]
    fn exact_zeros_do_not_widen_the_range() {
        // Half zeros, as after a ReLU: the range is that of the others alone.
        let others: Vec<f32> = (0..5_000).map(|i| (i as f32 / 5_000.0).powi(3) * 4.0).collect();
        let range = |values: &[f32]| {
            let mut observer = Observer::new(Watch::Histogram);
            observer.observe(values, 1);
            Mse {}.choose(observer.seen().unwrap(), observer.histogram(), 2).1
        };
        let (alone, mixed) = (range(&others), range(&[others.clone(), vec![0.0; 45_000]].concat()));
        assert!((alone - mixed).abs() < 0.1, "{alone} {mixed}");
    }
}
