//! The share of characters that must be edited.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::text::{Edits, Transcripts};
use super::{Measure, Tally};
use crate::metric::{Better, Metric};

/// The character error rate: edits from what the best class at each step says to what was said, over the length of what was said. A word error rate where
/// labels are words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cer {}

impl Measure for Cer {
    fn metric(&self) -> Metric {
        Metric { range: (Some(0.0), None), better: Better::Lower, ..Metric::share("CER") }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Transcribe(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Transcripts::start("CER", value)
    }
}

fn value(each: &mut dyn Iterator<Item = (Edits, f64)>) -> f64 {
    let (edits, length) = each.fold((0.0, 0.0), |(e, l), (of, t)| (e + t * of.edits as f64, l + t * of.length as f64));
    edits / f64::max(length, 1.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_two_words_one_is_right() {
        super::super::tests::transcribed(&super::Cer {}, 1.0 / 5.0);
    }
}
