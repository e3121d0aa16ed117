//! The intersection of what is and what is predicted, over their union.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::counts::{Count, Counts, mean_of};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The mean over classes of intersection over union (Jaccard, 1901), pooled over all positions: what segmentation is judged by.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Iou {}

impl Measure for Iou {
    fn metric(&self) -> Metric {
        Metric::share("IoU")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Segment(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Counts::start("IoU", 0.5, value)
    }
}

fn value(counts: &[Count]) -> f64 {
    mean_of(counts, |c| {
        let union = c.labelled + c.predicted - c.hits;
        (union > 0.0).then(|| c.hits / union)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `jaccard_score(y, p, average="macro")` of scikit-learn 1.9.1, y = [0,0,0,0,1,1,2,2,2], p = [0,0,1,2,1,1,2,0,2].
    #[test]
    fn as_scikit_learn_has_it() {
        let of = |hits: f64, labelled: f64, predicted: f64| Count { hits, labelled, predicted };
        let found = value(&[of(2.0, 4.0, 3.0), of(2.0, 2.0, 3.0), of(2.0, 3.0, 3.0)]);
        assert!((found - 0.522_222_222_222_222_2).abs() < 1e-12, "{found}");
    }
}
