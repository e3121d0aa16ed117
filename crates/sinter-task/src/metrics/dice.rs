//! Twice the intersection over the sum of what is and what is predicted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::counts::{Count, Counts, mean_of};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The mean over classes of the Dice coefficient (Dice, 1945), pooled over all positions: what medical segmentation is judged by.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dice {}

impl Measure for Dice {
    fn metric(&self) -> Metric {
        Metric::share("Dice")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Segment(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Counts::start("Dice", 0.5, value)
    }
}

fn value(counts: &[Count]) -> f64 {
    mean_of(counts, super::f1::of_class)
}
