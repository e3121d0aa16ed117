//! The share of samples whose largest output is the label.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::confusion::Confusion;
use super::{Measure, Outcome, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The share of samples whose largest output is the label. For classifiers whose classes are about equally frequent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {}

impl Measure for Accuracy {
    fn metric(&self) -> Metric {
        Metric::share("accuracy")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        task == Task::Classify && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Hits(Confusion::default()))
    }
}

struct Hits(Confusion);

impl Tally for Hits {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        self.0.add(seen, "accuracy")
    }

    fn finish(self: Box<Self>) -> Outcome {
        Outcome { value: self.0.accuracy(), top5: self.0.top5(), confusion: self.0.into_small_table() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn hits_are_counted_over_batches() {
        let mut tally = Accuracy {}.start();
        let output = Tensor::from_slice(&[0.1f32, 0.9, 0.8, 0.2, 0.4, 0.6]).reshape([3, 2]);
        for labels in [[1i64, 0, 0], [1, 1, 1]] {
            let labels = Tensor::from_slice(&labels);
            tally.add(&Seen { input: &output, output: &output, labels: Some(&labels), reference: None }).unwrap();
        }
        let outcome = tally.finish();
        assert!((outcome.value - 4.0 / 6.0).abs() < 1e-12);
        assert_eq!(outcome.confusion, Some(vec![vec![1, 1], vec![1, 3]]));
        let wrong = Accuracy {}.start().add(&Seen { input: &output, output: &output, labels: None, reference: None });
        assert!(wrong.unwrap_err().to_string().contains("accuracy needs labels"));
    }
}
