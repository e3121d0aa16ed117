//! The error where as many are missed as are wrongly taken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::scores::{Scored, Scores, fits, groups};
use super::{Measure, Tally};
use crate::metric::{Better, Metric};

/// The equal error rate: the share of errors at the threshold where misses and false alarms are as frequent, between two thresholds by a straight line. For
/// verification and voice activity.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Eer {}

impl Measure for Eer {
    fn metric(&self) -> Metric {
        Metric { range: (Some(0.0), Some(1.0)), better: Better::Lower, ..Metric::share("EER") }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        fits(task, labelled)
    }

    fn start(&self) -> Box<dyn Tally> {
        Scores::start("EER", equal_error)
    }
}

/// Where the share of misses, which grows with the threshold, meets that of false alarms.
fn equal_error(scores: &mut dyn Iterator<Item = (Scored, f64)>) -> f64 {
    let groups = groups(scores);
    let (all_yes, all_no) = groups.iter().fold((0.0, 0.0), |(a, b), g| (a + g.1, b + g.2));
    if all_yes == 0.0 || all_no == 0.0 {
        return 0.5;
    }
    let (mut missed, mut alarms) = (0.0, 1.0);
    for (_, yes, no) in groups {
        let (more, fewer) = (missed + yes / all_yes, alarms - no / all_no);
        if more >= fewer {
            let (before, after) = (alarms - missed, more - fewer);
            return missed + (more - missed) * before / (before + after);
        }
        (missed, alarms) = (more, fewer);
    }
    missed
}

#[cfg(test)]
mod tests {
    /// `brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1)` on `roc_curve(y, s, drop_intermediate=False)`, scikit-learn 1.9.1 and SciPy 1.17.1.
    #[test]
    fn as_scipy_has_it() {
        super::super::tests::scored(&super::Eer {}, 0.333_333_333_333_333_3);
    }
}
