//! Means over samples.

use sinter_model::to_f32s;
use tch::Tensor;

use super::{Alone, Seen, Tally};
use crate::error::TaskError;

/// What a sample contributes: float `[n]`.
pub(super) type Each = fn(&Seen) -> Result<Tensor, TaskError>;

/// A mean of one number a sample.
pub(super) struct Means {
    each: Each,
    seen: Vec<f32>,
}

impl Means {
    /// Of this.
    pub fn of(each: Each) -> Box<dyn Tally> {
        Box::new(Self { each, seen: Vec::new() })
    }
}

impl Tally for Means {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        self.seen.extend(to_f32s(&(self.each)(seen)?)?);
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        weighted_mean(self.seen.iter().map(|v| f64::from(*v)), times)
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        self.seen.get(sample).map(|v| Alone::of(f64::from(*v)))
    }
}

/// The mean of values that count as often as `times` says.
pub(super) fn weighted_mean(values: impl Iterator<Item = f64>, times: &[u32]) -> f64 {
    let (sum, count) = values.zip(times).fold((0.0, 0.0), |(sum, count), (v, &t)| (sum + v * f64::from(t), count + f64::from(t)));
    sum / f64::max(count, 1.0)
}
