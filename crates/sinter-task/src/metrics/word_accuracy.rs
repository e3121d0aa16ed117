//! The share of samples that are transcribed without an error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::text::{Edits, Transcripts};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The share of samples that are transcribed without an error: words of a text that was read, where a sample is a word.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WordAccuracy {}

impl Measure for WordAccuracy {
    fn metric(&self) -> Metric {
        Metric::share("word accuracy")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Transcribe(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Transcripts::start("word accuracy", value)
    }
}

fn value(each: &mut dyn Iterator<Item = (Edits, f64)>) -> f64 {
    let (right, all) = each.fold((0.0, 0.0), |(r, all), (of, t)| (r + if of.edits == 0 { t } else { 0.0 }, all + t));
    right / f64::max(all, 1.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_two_words_one_is_right() {
        super::super::tests::transcribed(&super::WordAccuracy {}, 0.5);
    }
}
