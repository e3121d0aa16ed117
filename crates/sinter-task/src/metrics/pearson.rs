//! The linear correlation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::sums::{Sum, Sums, with_labels};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The linear correlation of outputs and labels (Pearson, 1895).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pearson {}

impl Measure for Pearson {
    fn metric(&self) -> Metric {
        Metric::bounded("Pearson", -1.0, 1.0)
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Regress(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Sums::start(with_labels, value)
    }
}

fn value(sum: &Sum) -> f64 {
    let both = sum.xy - sum.x * sum.y / sum.count;
    let spread = (sum.xx - sum.x * sum.x / sum.count) * (sum.yy - sum.y * sum.y / sum.count);
    if spread > 0.0 { both / spread.sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    /// `pearsonr(t, p)` of SciPy 1.17.1.
    #[test]
    fn as_scipy_has_it() {
        super::super::tests::regression(&super::Pearson {}, 0.982_106_524_071_045_3);
    }
}
