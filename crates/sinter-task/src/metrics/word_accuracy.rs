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
    use super::super::tests::{twice_is_two, value};
    use super::*;
    use sinter_data::Transcribe;
    use tch::{Kind, Tensor};

    #[test]
    fn of_two_words_one_is_right() {
        // The best at each step: 1 1 0 2 and 2 0 0 3, of four classes, the first of which is the blank.
        let best = Tensor::from_slice(&[1i64, 1, 0, 2, 2, 0, 0, 3]).reshape([2, 4]);
        let output = best.one_hot(4).to_kind(Kind::Float);
        let labels = Tensor::from_slice(&[1i64, 2, -1, 2, 1, 3]).reshape([2, 3]);
        let task = Task::Transcribe(Transcribe::default());
        let found = value(&WordAccuracy {}, task, &[(output.shallow_clone(), labels.shallow_clone())], None);
        assert!((found - 0.5).abs() < 1e-9, "{found}");
        twice_is_two(&WordAccuracy {}, task, &output, &labels);
    }
}
