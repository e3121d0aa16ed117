//! Watching one value: its extremes, their average, or a histogram.

use crate::extremes::{Extremes, extremes};
use crate::histogram::Histogram;

/// How much a new sample moves an average at least.
const MOVE: f32 = 0.002;

/// What is kept of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The least and the greatest.
    Extremes,
    /// The least and the greatest of each sample, averaged; the latest five hundred count most (an exponential moving average).
    Averages,
    /// The least and the greatest, and how values lie between them.
    Histogram,
}

/// Watches one value over batches.
#[derive(Debug)]
pub struct Observer {
    watch: Watch,
    low: f32,
    high: f32,
    histogram: Histogram,
    samples: u64,
}

impl Observer {
    /// Nothing seen yet.
    pub fn new(watch: Watch) -> Self {
        Self { watch, low: f32::INFINITY, high: f32::NEG_INFINITY, histogram: Histogram::default(), samples: 0 }
    }

    /// Takes in the elements of a batch of so many samples; those that are not finite are passed over. Returns whether all were.
    pub fn observe(&mut self, values: &[f32], samples: usize) -> bool {
        if self.watch == Watch::Averages {
            let each = values.len().div_ceil(samples.max(1)).max(1);
            return values.chunks(each).fold(true, |all, sample| {
                let seen = extremes(sample);
                self.average(seen);
                all && seen.all_finite
            });
        }
        let seen = extremes(values);
        if seen.low > seen.high {
            return seen.all_finite;
        }
        self.low = self.low.min(seen.low);
        self.high = self.high.max(seen.high);
        if self.watch == Watch::Histogram {
            match seen.all_finite {
                true => self.histogram.add(values, seen),
                false => self.histogram.add(&values.iter().copied().filter(|v| v.is_finite()).collect::<Vec<_>>(), seen),
            }
        }
        seen.all_finite
    }

    /// Takes in the extremes of one sample.
    fn average(&mut self, seen: Extremes) {
        if seen.low > seen.high {
            return;
        }
        self.samples += 1;
        // The mean of the first, then an exponential moving average.
        let share = (1.0 / self.samples as f32).max(MOVE);
        let first = self.samples == 1;
        self.low = if first { seen.low } else { self.low + share * (seen.low - self.low) };
        self.high = if first { seen.high } else { self.high + share * (seen.high - self.high) };
    }

    /// The least and the greatest that was seen, or their averages; `None` before anything was.
    pub fn seen(&self) -> Option<(f32, f32)> {
        (self.low <= self.high).then_some((self.low, self.high))
    }

    /// How values lie; without counts where only extremes are watched.
    pub fn histogram(&self) -> &Histogram {
        &self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_passed_over() {
        for watch in [Watch::Extremes, Watch::Histogram] {
            let mut observer = Observer::new(watch);
            observer.observe(&[f32::NAN, 1.0, f32::INFINITY, -2.0, f32::NEG_INFINITY], 1);
            assert_eq!(observer.seen(), Some((-2.0, 1.0)));
            assert!(observer.histogram().counts().iter().sum::<u64>() == 2 || watch == Watch::Extremes);
        }
        assert_eq!(Observer::new(Watch::Histogram).seen(), None);
    }

    #[test]
    fn late_samples_count_most_in_an_average() {
        let mut observer = Observer::new(Watch::Averages);
        observer.observe(&[-100.0, 100.0], 1);
        (0..600).for_each(|_| assert!(observer.observe(&[-1.0, 1.0, -0.5, 1.0], 2)));
        let (low, high) = observer.seen().unwrap();
        assert!((-0.85..-0.75).contains(&low) && (1.0..1.1).contains(&high), "{low} {high}");
    }
}
