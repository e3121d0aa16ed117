//! How magnitudes are spread, whatever their size: a sketch of bins as wide as a sixteenth of a power of two, for any value that float32 holds
//! (relative error as in DDSketch; Masson et al., 2019). It tells the bulk of the values from outliers that are thousands of times larger.

/// Bits of a number that name its bin: sign, exponent, and the first four of the fraction.
const KEPT: u32 = 13;
const BINS: usize = 1 << KEPT;
const DROPPED: u32 = 32 - KEPT;

/// Counts of finite numbers by sign and magnitude.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    counts: Vec<u64>,
}

impl Sketch {
    /// Takes in finite numbers.
    pub fn add<'a>(&mut self, values: impl Iterator<Item = &'a f32>) {
        self.counts.resize(BINS, 0);
        values.for_each(|v| self.counts[(v.to_bits() >> DROPPED) as usize] += 1);
    }

    /// The bins that are not empty, from the least to the greatest: their ends and counts. Zeros, and numbers too small to tell from zero, are
    /// in a bin from 0 to 0.
    pub fn bins(&self) -> Vec<(f32, f32, u64)> {
        let half = BINS / 2;
        // With the sign bit set, larger bits are numbers further below zero.
        let negative = (half..self.counts.len()).rev().map(|b| (b, true));
        let positive = (0..half.min(self.counts.len())).map(|b| (b, false));
        let filled = negative.chain(positive).filter(|(b, _)| self.counts[*b] > 0);
        let each = filled.map(|(b, below)| {
            let end = |b: usize| f32::from_bits((b as u32) << DROPPED);
            match b % half {
                0 => (0.0, 0.0, self.counts[b]),
                // The last bin ends at infinity.
                _ if below => (end(b + 1).max(f32::MIN), end(b), self.counts[b]),
                _ => (end(b), end(b + 1).min(f32::MAX), self.counts[b]),
            }
        });
        each.collect()
    }

    /// Between which ends all but the outermost `share` on each side lie, zeros left out: they say nothing of how far others reach. `None` where
    /// there are too few values to leave any out.
    pub fn bulk(&self, share: f64) -> Option<(f32, f32)> {
        let bins: Vec<_> = self.bins().into_iter().filter(|(low, high, _)| low != high).collect();
        let cut = (bins.iter().map(|b| b.2).sum::<u64>() as f64 * share) as u64;
        if cut == 0 {
            return None;
        }
        let edge = |mut bins: Box<dyn Iterator<Item = &(f32, f32, u64)> + '_>| {
            let mut sum = 0;
            bins.find(|b| {
                sum += b.2;
                sum > cut
            })
            .copied()
        };
        Some((edge(Box::new(bins.iter()))?.0.min(0.0), edge(Box::new(bins.iter().rev()))?.1.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every number is in a bin that holds it, and bins come in order.
        #[test]
        fn bins_hold_their_numbers(value in proptest::num::f32::NORMAL) {
            let mut sketch = Sketch::default();
            sketch.add([value, 0.0, 1.0].iter());
            let bins = sketch.bins();
            prop_assert!(bins.iter().any(|(low, high, _)| *low <= value && value <= *high), "{value} in {bins:?}");
            prop_assert!(bins.windows(2).all(|two| two[0].1 <= two[1].0), "{bins:?}");
            prop_assert!(bins.iter().all(|(low, high, _)| (high - low).abs() <= low.abs().max(high.abs()) / 16.0 || low.abs().max(high.abs()) > 1e38));
        }
    }

    #[test]
    fn outliers_are_no_part_of_the_bulk() {
        let mut sketch = Sketch::default();
        let values: Vec<f32> = (0..10_000).map(|i| (i as f32 / 5_000.0) - 1.0).collect();
        sketch.add(values.iter().chain([1e6, -1e30].iter()));
        let (low, high) = sketch.bulk(1e-3).unwrap();
        assert!((-1.1..-0.9).contains(&low) && (0.9..1.1).contains(&high), "{low} {high}");
        assert_eq!(Sketch::default().bulk(1e-3), None);
    }
}
