//! A metric's value on some samples.

use serde::{Deserialize, Serialize};

use crate::metric::{Degradation, Metric};

/// A metric's value on some samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured.
    pub metric: Metric,
    /// In the metric's unit, a share between 0 and 1.
    pub value: f64,
    /// On how many samples.
    pub samples: usize,
    /// Share of samples whose label is among the five largest outputs; with more than five classes.
    pub top5: Option<f64>,
    /// `confusion[label][predicted]`, for up to 100 classes.
    pub confusion: Option<Vec<Vec<u32>>>,
}

impl Measurement {
    /// How much is lost from this to `now`.
    pub fn degradation(&self, now: &Measurement) -> Degradation {
        self.metric.degradation(self.value, now.value)
    }

    /// A number that is the larger the better, to choose by.
    pub fn score(&self) -> f64 {
        self.metric.score(self.value)
    }
}
