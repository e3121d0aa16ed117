//! Every metric of a run, with its interval: what the float model scored, what is left, and whether they truly differ.

use serde::{Deserialize, Serialize};
use sinter_task::Metric;

/// Below this, chances are not told apart.
const LEAST_P: f64 = 0.002;

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
    /// The change in words: `0.31 points lost (95 %: 0.10 gained to 0.70 lost; p = 0.140)`.
    pub fn change(&self) -> String {
        let Some(float) = self.float else { return String::new() };
        let text = self.metric.loss_text(float.value, self.result.value);
        let Some(lost) = self.lost else { return text };
        let end = |v: f64| format!("{} {}", self.metric.step_size(v), if v < 0.0 { "gained" } else { "lost" });
        // Of a thousand draws none says less.
        let p = if lost.p < LEAST_P { format!("p < {LEAST_P}") } else { format!("p = {:.3}", lost.p) };
        format!("{text} (95 %: {} to {}; {p})", end(lost.low), end(lost.high))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_say_which_way_they_go() {
        let mut row = QualityRow {
            metric: Metric::share("accuracy"),
            float: Some(Figure { value: 0.91, interval: None }),
            result: Figure { value: 0.9, interval: None },
            lost: Some(LostRow { low: -0.001, high: 0.02, p: 0.14 }),
            runtime: "ONNX Runtime".into(),
            samples: 100,
        };
        assert_eq!(row.change(), "1.00 points lost (95 %: 0.10 gained to 2.00 lost; p = 0.140)");
        row.metric = Metric::error("MAE");
        row.lost = Some(LostRow { low: -0.0125, high: -0.001, p: 0.001 });
        assert_eq!(row.change(), "MAE better by 0.0100 (95 %: 0.0125 gained to 0.0010 gained; p < 0.002)");
        row.float = None;
        assert_eq!(row.change(), "");
    }
}
