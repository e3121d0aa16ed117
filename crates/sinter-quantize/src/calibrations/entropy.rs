//! Least divergence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::{Histogram, Watch};

use super::RangeChoice;
use super::search::{counts_beside_zero, difference, running, shrink};

/// The range that keeps most of the distribution, by Kullback-Leibler divergence (Migacz, 2017): what is clipped counts at the edge, and the bins
/// of one level share their counts evenly. For long tails. Costs a histogram and a search.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entropy {}

impl RangeChoice for Entropy {
    fn watch(&self) -> Watch {
        Watch::Histogram
    }

    fn choose(&self, seen: (f32, f32), histogram: &Histogram, bits: u8) -> (f32, f32) {
        let levels = 1usize << bits;
        let counts = counts_beside_zero(histogram);
        let sums = running(counts.iter().map(|&c| if c > 0.0 { [c, c * c.ln(), 1.0] } else { [0.0; 3] }));
        let total = sums[Histogram::BINS][0];
        if total <= 0.0 {
            return seen;
        }
        shrink(seen.0, seen.1, |low, high| {
            let (first, last) = (histogram.bin(low), histogram.bin(high));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrations::search::costs_least;
    use proptest::prelude::*;

    fn divergence_by_bin(h: &Histogram, bits: u8, (low, high): (f32, f32)) -> f64 {
        let mut counts: Vec<f64> = h.counts().iter().map(|&c| c as f64).collect();
        counts[h.bin(0.0)] -= h.zeros() as f64;
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

    proptest! {
        /// The cost by running sums is that of its definition, bin by bin.
        #[test]
        fn sums_stand_for_bins(values in proptest::collection::vec(-200i32..1000, 50..400), bits in 2u8..9) {
            let least = costs_least(&Entropy {}, divergence_by_bin, &values, bits);
            prop_assert!(least);
        }
    }
}
