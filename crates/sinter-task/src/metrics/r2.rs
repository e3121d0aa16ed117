//! The share of variance that is explained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::sums::{Sum, Sums, with_labels};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The share of the variance of labels that is explained: 1 where all are met, 0 where their mean would do as well, below where it would do better.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct R2 {}

impl Measure for R2 {
    fn metric(&self) -> Metric {
        Metric { range: (None, Some(1.0)), ..Metric::bounded("R²", 0.0, 1.0) }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Regress(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Sums::start(with_labels, value)
    }
}

fn value(sum: &Sum) -> f64 {
    let spread = sum.yy - sum.y * sum.y / sum.count;
    if spread > 0.0 { 1.0 - sum.square / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    /// `r2_score(t, p)` of scikit-learn 1.9.1.
    #[test]
    fn as_scikit_learn_has_it() {
        super::super::tests::regression(&super::R2 {}, 0.942_451_420_029_895_3);
    }
}
