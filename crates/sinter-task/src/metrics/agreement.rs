//! How often the answer is the float model's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::{Kind, Tensor};

use super::means::Means;
use super::{Measure, Seen, Tally, rows_of};
use crate::error::TaskError;
use crate::metric::Metric;

/// The share of samples, or of their positions, whose largest output (over the last axis of the first output) is the float model's. Needs no labels, and tells what
/// a greedy decoder would do otherwise.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agreement {}

impl Measure for Agreement {
    fn metric(&self) -> Metric {
        Metric::share("agreement")
    }

    fn fits(&self, task: Task, _labelled: bool) -> bool {
        matches!(task, Task::Classify(_) | Task::Segment(_) | Task::Transcribe(_) | Task::Language(_))
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn start(&self) -> Box<dyn Tally> {
        Means::of(agreement)
    }
}

fn agreement(seen: &Seen) -> Result<Tensor, TaskError> {
    let largest = |t: &Tensor| t.f_argmax(-1, false);
    let theirs = seen.references.and_then(|r| r.first()).unwrap_or(seen.output());
    let same = largest(seen.output())?.f_eq_tensor(&largest(theirs)?)?;
    Ok(rows_of(&same.f_to_kind(Kind::Float)?)?.f_mean_dim(1, false, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_share_of_equal_answers() {
        let (ours, theirs) = (&[1f32, 0.0, -1.0, 0.5, 0.25, 2.0][..], &[0.5f32, 0.7, -2.0, 0.0, 0.25, 1.0][..]);
        let tally = super::super::tests::beside_float(&super::Agreement {}, &[ours], &[theirs]);
        assert_eq!((tally.value(&[1, 1]), tally.value(&[1, 0]), tally.value(&[0, 1])), (0.5, 0.0, 1.0));
    }
}
