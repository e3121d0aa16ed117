//! The root of the mean squared error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::sums::{Sum, Sums, with_labels};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The root of the mean squared error, in the unit of the labels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rmse {}

impl Measure for Rmse {
    fn metric(&self) -> Metric {
        Metric::error("RMSE")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Regress(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Sums::start(with_labels, value)
    }
}

fn value(sum: &Sum) -> f64 {
    (sum.square / sum.count).sqrt()
}

#[cfg(test)]
mod tests {
    /// `mean_squared_error(t, p) ** 0.5` of scikit-learn 1.9.1.
    #[test]
    fn as_scikit_learn_has_it() {
        super::super::tests::regression(&super::Rmse {}, 0.542_810_148_341_809_4);
    }
}
