//! How the range of an activation is chosen, one file a calibration. All take one pass over the samples, in memory that does not grow with
//! their number.
//!
//! To add one: a file with a documented struct of its options that implements [`RangeChoice`], and one line in the list below.

mod entropy;
mod hellinger;
mod min_max;
mod moving_average;
mod mse;
mod percentile;
mod search;

use std::fmt::Debug;

use sinter_calibrate::{Focused, Histogram, Observer, Watch};

/// A way to choose a range.
pub trait RangeChoice: Debug + Send + Sync {
    /// What must be watched.
    fn watch(&self) -> Watch;

    /// How many of the histogram's bins the bulk of the values must fill. Where outliers leave it fewer, they are put at the ends of a histogram
    /// of the bulk.
    fn least_bins(&self, _bits: u8) -> f64 {
        Histogram::BINS as f64 / 16.0
    }

    /// The range to quantize to `bits`, within `seen`, the extremes (or their averages).
    fn choose(&self, seen: (f32, f32), histogram: &Histogram, bits: u8) -> (f32, f32);
}

sinter_model::choices! {
    /// How the range of an activation is chosen.
    pub enum Calibration: dyn RangeChoice {
        "mse" => Mse(mse::Mse),
        "min-max" => MinMax(min_max::MinMax),
        "moving-average" => MovingAverage(moving_average::MovingAverage),
        "percentile" => Percentile(percentile::Percentile),
        "entropy" => Entropy(entropy::Entropy),
        "hellinger" => Hellinger(hellinger::Hellinger),
    }
    default Mse
}

impl Calibration {
    /// The range of what was observed, to quantize to `bits`; (0, 0) when nothing was seen.
    pub fn range(&self, observer: &Observer, bits: u8) -> (f32, f32) {
        let Some(seen) = observer.seen() else { return (0.0, 0.0) };
        match self.focus(observer, bits) {
            Some(focused) => self.kind().choose(focused.seen, &focused.histogram, bits),
            None => self.kind().choose(seen, observer.histogram(), bits),
        }
    }

    /// The bulk of what was observed, where outliers hide it from this calibration; they are clipped then.
    pub fn focus(&self, observer: &Observer, bits: u8) -> Option<Focused> {
        observer.histogram().focus(self.kind().least_bins(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(calibration: &str, values: &[f32], bits: u8) -> (f32, f32) {
        let calibration: Calibration = calibration.parse().unwrap();
        let mut observer = Observer::new(calibration.kind().watch());
        observer.observe(values, 1);
        calibration.range(&observer, bits)
    }

    #[test]
    fn an_outlier_is_clipped_by_all_but_min_max() {
        let mut values: Vec<f32> = (0..100_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        values.push(100.0);
        assert_eq!(range("min-max", &values, 4).1, 100.0);
        for (calibration, most) in [("mse", 10.0), ("percentile", 2.0), ("entropy", 50.0)] {
            assert!(range(calibration, &values, 4).1 < most, "{calibration}: {:?}", range(calibration, &values, 4));
        }
    }

    /// One value in a hundred thousand is two hundred thousand times as large as the others.
    #[test]
    fn a_wild_outlier_does_not_hide_the_others() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut normal = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
        let mut values: Vec<f32> = (0..100_000).map(|_| normal()).collect();
        values[777] = 1e6;
        for calibration in ["mse", "percentile", "entropy", "hellinger"] {
            let (low, high) = range(calibration, &values, 8);
            assert!(low < -2.0 && high > 2.0 && high - low < 20.0, "{calibration}: {low} {high}");
        }
        assert_eq!(range("min-max", &values, 8).1, 1e6);
    }

    #[test]
    fn nothing_seen_gives_an_empty_range() {
        for calibration in Calibration::all() {
            assert_eq!(calibration.range(&Observer::new(calibration.kind().watch()), 8), (0.0, 0.0));
        }
    }

    /// Values of one sign that keep away from zero, of which later batches widen the histogram downward.
    #[test]
    fn values_that_never_come_near_zero_have_a_range() {
        let mut random = fastrand::Rng::with_seed(5);
        for sign in [1f32, -1.0] {
            for calibration in Calibration::all() {
                let mut observer = Observer::new(calibration.kind().watch());
                for least in [20f32, 14.0, 10.5, 10.0] {
                    let values: Vec<f32> = (0..500).map(|_| sign * (least + random.f32() * (35.0 - least))).collect();
                    observer.observe(&values, 1);
                }
                let (low, high) = calibration.range(&observer, 8);
                let (low, high) = if sign > 0.0 { (low, high) } else { (-high, -low) };
                assert!(low >= 9.9 && high > 20.0 && high <= 35.1, "{}: {low} {high}", calibration.name());
            }
        }
    }

    #[test]
    fn ranges_stay_within_what_was_seen() {
        let values: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 5000) as f32 / 2500.0 - 0.5).collect();
        for calibration in Calibration::NAMES {
            let (low, high) = range(calibration, &values, 8);
            assert!((-0.5..=0.0).contains(&low) && (0.5..=1.5).contains(&high), "{calibration}: {low} {high}");
        }
    }
}
