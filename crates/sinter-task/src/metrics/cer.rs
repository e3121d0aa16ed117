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
        let found = value(&Cer {}, task, &[(output.shallow_clone(), labels.shallow_clone())], None);
        assert!((found - 1.0 / 5.0).abs() < 1e-9, "{found}");
        twice_is_two(&Cer {}, task, &output, &labels);
    }
}
