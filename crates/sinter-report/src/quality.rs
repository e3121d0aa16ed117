//! Every metric of a run, with its interval: what the float model scored, what is left, and whether they truly differ.

use serde::{Deserialize, Serialize};
use sinter_task::Metric;

/// A metric's value, and where it would lie for other samples like these, 95 times of a hundred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// On the test split.
    pub value: f64,
    /// The ends of the interval; `None` where a metric has none.
    pub interval: Option<(f64, f64)>,
}

/// What was lost, on the same samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LostRow {
    /// In the metric's unit, below zero when some is gained: the 95 % interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How likely so large a difference is by the choice of samples alone; two-sided.
    pub p: f64,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRow {
    /// What is measured.
    pub metric: Metric,
    /// Of the float model; `None` where the metric measures the distance from it.
    pub float: Option<Figure>,
    /// Of the result.
    pub result: Figure,
    /// `None` where samples can't be paired.
    pub lost: Option<LostRow>,
    /// What computed the outputs: ONNX Runtime, or the simulation.
    pub runtime: String,
    /// The number of samples.
    pub samples: usize,
}

impl QualityRow {
    /// The change in words: `0.31 points lost (-0.10 to 0.70, p = 0.14)`.
    pub fn change(&self) -> String {
        let Some(float) = self.float else { return String::new() };
        let text = self.metric.loss_text(float.value, self.result.value);
        let scale = |v: f64| self.metric.scaled(v);
        match self.lost {
            Some(lost) => format!("{text} ({:.2} to {:.2}, p = {:.3})", scale(lost.low), scale(lost.high), lost.p),
            None => text,
        }
    }
}

/// An artefact measured in a real runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRow {
    /// Relative to the run's folder.
    pub artifact: String,
    /// Its name.
    pub runtime: String,
    /// The metric on the test split, from the runtime; `None`: not measured.
    pub value: Option<f64>,
    /// The same from Sinter's own interpreter.
    pub simulated: f64,
    /// The share of samples for which both predict the same class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equal: Option<f64>,
    /// Milliseconds for one sample on one thread.
    pub latency_median: Option<f64>,
    /// The 95th percentile.
    pub latency_p95: Option<f64>,
    /// Bytes that opening the file and one inference took at most.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// Why there is no value, or what is wrong with it.
    pub note: Option<String>,
}
