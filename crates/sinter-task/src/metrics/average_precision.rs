//! The mean of precisions, one at each recall.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::scores::{Scored, Scores, fits, groups};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The area under the curve of precision over recall, as a sum of steps: of the reconstruction error as a score of anomalies, or of the outputs as scores of
/// labels, all pooled. For what is rare.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AveragePrecision {}

impl Measure for AveragePrecision {
    fn metric(&self) -> Metric {
        Metric::bounded("average precision", 0.0, 1.0)
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        fits(task, labelled)
    }

    fn start(&self) -> Box<dyn Tally> {
        Scores::start("average precision", precision)
    }
}

fn precision(scores: &mut dyn Iterator<Item = (Scored, f64)>) -> f64 {
    let groups = groups(scores);
    let positive: f64 = groups.iter().map(|g| g.1).sum();
    let (mut hits, mut taken, mut area) = (0.0, 0.0, 0.0);
    for (_, yes, no) in groups.iter().rev() {
        hits += yes;
        taken += yes + no;
        area += yes / f64::max(positive, 1.0) * hits / f64::max(taken, 1.0);
    }
    area
}

#[cfg(test)]
mod tests {
    /// `average_precision_score(y, s)` of scikit-learn 1.9.1.
    #[test]
    fn as_scikit_learn_has_it() {
        super::super::tests::scored(&super::AveragePrecision {}, 0.816_666_666_666_666_7);
    }
}
