//! The harmonic mean of precision and recall.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::counts::{Count, Counts, mean_of};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The harmonic mean of precision and recall (van Rijsbergen, 1979): the mean over classes (the macro average of Sokolova and Lapalme, 2009), or that of
/// the labels that hold, where each does or does not. For classes of unequal frequency, where accuracy tells of the frequent ones alone. Costs what accuracy does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct F1 {
    /// Over classes, or over all hits together. Default: macro.
    #[serde(default)]
    pub average: Average,
    /// For labels that each hold or do not: from where on an output says that one does. Default: 0.5, right for probabilities; logits want 0.
    #[serde(default = "super::scores::half")]
    pub threshold: f64,
}

/// What a mean is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// Classes, each alike.
    #[default]
    Macro,
    /// All hits and misses: with one label a sample that is accuracy.
    Micro,
    /// The class 1 alone, of two.
    Positive,
}

impl Default for F1 {
    fn default() -> Self {
        Self { average: Average::Macro, threshold: super::scores::half() }
    }
}

impl Measure for F1 {
    fn metric(&self) -> Metric {
        Metric::share("F1")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Classify(_) | Task::Segment(_) | Task::MultiLabel(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        let value = match self.average {
            Average::Macro => macro_f1,
            Average::Micro => micro_f1,
            Average::Positive => positive_f1,
        };
        Counts::start("F1", self.threshold, value).of_positives()
    }
}

/// Of a class; one that neither occurs nor is predicted has none, one that is never hit has 0.
pub(super) fn of_class(c: &Count) -> Option<f64> {
    let both = c.labelled + c.predicted;
    (both > 0.0).then(|| 2.0 * c.hits / both)
}

fn macro_f1(counts: &[Count]) -> f64 {
    mean_of(counts, of_class)
}

fn micro_f1(counts: &[Count]) -> f64 {
    let sum = counts.iter().fold(Count::default(), |a, b| Count {
        hits: a.hits + b.hits,
        labelled: a.labelled + b.labelled,
        predicted: a.predicted + b.predicted,
    });
    of_class(&sum).unwrap_or(0.0)
}

fn positive_f1(counts: &[Count]) -> f64 {
    counts.get(1).or(counts.first()).and_then(of_class).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hits: f64, labelled: f64, predicted: f64) -> Count {
        Count { hits, labelled, predicted }
    }

    /// `sklearn.metrics.f1_score(y, p, average=...)` of scikit-learn 1.9.1 on these predictions.
    #[test]
    fn as_scikit_learn_has_it() {
        // y = [0,0,0,0,1,1,2,2,2], p = [0,0,1,2,1,1,2,0,2]
        let counts = [of(2.0, 4.0, 3.0), of(2.0, 2.0, 3.0), of(2.0, 3.0, 3.0)];
        assert!((macro_f1(&counts) - 0.679_365_079_365_079_4).abs() < 1e-12, "{}", macro_f1(&counts));
        assert!((micro_f1(&counts) - 0.666_666_666_666_666_6).abs() < 1e-12);
        // y = [0,0,1], p = [0,0,0]: class 1 is never hit. Class 2 neither occurs nor is predicted.
        assert!((macro_f1(&[of(2.0, 2.0, 3.0), of(0.0, 1.0, 0.0), of(0.0, 0.0, 0.0)]) - 0.4).abs() < 1e-12);
        assert_eq!(macro_f1(&[]), 0.0);
        // y = [0,1,1,0,1], p = [1,1,0,0,1], average="binary".
        assert!((positive_f1(&[of(1.0, 2.0, 2.0), of(2.0, 3.0, 3.0)]) - 0.666_666_666_666_666_6).abs() < 1e-12);
    }
}
