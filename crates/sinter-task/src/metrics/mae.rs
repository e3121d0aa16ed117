//! The mean magnitude of errors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::sums::{Sum, Sums, with_labels};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The mean magnitude of errors, in the unit of the labels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mae {}

impl Measure for Mae {
    fn metric(&self) -> Metric {
        Metric::error("MAE")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Regress(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Sums::start(with_labels, value)
    }
}

fn value(sum: &Sum) -> f64 {
    sum.absolute / sum.count
}

#[cfg(test)]
mod tests {
    /// `mean_absolute_error(t, p)` of scikit-learn 1.9.1.
    #[test]
    fn as_scikit_learn_has_it() {
        super::super::tests::regression(&super::Mae {}, 0.464_285_714_285_714_3);
    }
}
