//! The area under the ROC curve.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::scores::{Scores, area, fits};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The area under the ROC curve (Hanley and McNeil, 1982): of the reconstruction error as a score of anomalies, or of the outputs as scores of labels, all
/// pooled. Keeps one number a score.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auc {}

impl Measure for Auc {
    fn metric(&self) -> Metric {
        Metric::bounded("AUC", 0.0, 1.0)
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        fits(task, labelled)
    }

    fn start(&self) -> Box<dyn Tally> {
        Scores::start("AUC", area)
    }
}

#[cfg(test)]
mod tests {
    /// `roc_auc_score(y, s)` of scikit-learn 1.9.1.
    #[test]
    fn as_scikit_learn_has_it() {
        super::super::tests::scored(&super::Auc {}, 0.8125);
    }
}
