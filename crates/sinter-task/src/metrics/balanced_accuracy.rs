//! The mean over classes of the share that is found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::counts::{Count, Counts, mean_of};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The mean over classes of the share that is found (Brodersen et al., 2010): a rare class counts as much as a frequent one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalancedAccuracy {}

impl Measure for BalancedAccuracy {
    fn metric(&self) -> Metric {
        Metric::share("balanced accuracy")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Classify(_) | Task::Segment(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Counts::start("balanced accuracy", 0.5, value)
    }
}

fn value(counts: &[Count]) -> f64 {
    mean_of(counts, |c| (c.labelled > 0.0).then(|| c.hits / c.labelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `balanced_accuracy_score(y, p)` of scikit-learn 1.9.1, y = [0,0,0,0,1,1,2,2,2], p = [0,0,1,2,1,1,2,0,2].
    #[test]
    fn as_scikit_learn_has_it() {
        let of = |hits: f64, labelled: f64, predicted: f64| Count { hits, labelled, predicted };
        assert!((value(&[of(2.0, 4.0, 3.0), of(2.0, 2.0, 3.0), of(2.0, 3.0, 3.0)]) - 0.722_222_222_222_222_2).abs() < 1e-12);
    }
}
