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
    use super::super::tests::{twice_is_two, value};
    use super::*;
    use sinter_data::Regress;
    use tch::Tensor;

    /// `mean_absolute_error(t, p)` of scikit-learn 1.9.1, t = [1.5, -0.5, 2, 7, 0.25, 3, 3], p = [1, 0, 2, 8, 0.5, 2.5, 3.5].
    #[test]
    fn as_scikit_learn_has_it() {
        let output = Tensor::from_slice(&[1.0f32, 0.0, 2.0, 8.0, 0.5, 2.5, 3.5]).reshape([7, 1]);
        let wanted = Tensor::from_slice(&[1.5f32, -0.5, 2.0, 7.0, 0.25, 3.0, 3.0]);
        let task = Task::Regress(Regress::default());
        let parts = [(0, 4), (4, 3)].map(|(from, n)| (output.narrow(0, from, n), wanted.narrow(0, from, n)));
        let found = value(&Mae {}, task, &parts, None);
        assert!((found - 0.464_285_714_285_714_3).abs() < 1e-6, "{found}");
        twice_is_two(&Mae {}, task, &output, &wanted);
    }
}
