//! The cosine between the outputs and those of the float model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::Tensor;

use super::mse::Mean;
use super::{Measure, Outcome, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The mean cosine between the outputs and those of the float model. For data without labels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cosine {}

impl Measure for Cosine {
    fn metric(&self) -> Metric {
        Metric::bounded("cosine", -1.0, 1.0)
    }

    fn fits(&self, _task: Task, _labelled: bool) -> bool {
        true
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Likeness(Mean::default()))
    }
}

struct Likeness(Mean);

impl Tally for Likeness {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        // The float model itself is like itself.
        let other = seen.reference.unwrap_or(seen.output);
        self.0.take(&Tensor::f_cosine_similarity(seen.output, other, 1, 1e-8)?)
    }

    fn finish(self: Box<Self>) -> Outcome {
        Outcome { value: self.0.value(), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_angles_and_parallels() {
        let output = Tensor::from_slice(&[1f32, 0.0, 2.0, 2.0]).reshape([2, 2]);
        let reference = Tensor::from_slice(&[0f32, 3.0, 1.0, 1.0]).reshape([2, 2]);
        let mut tally = Cosine {}.start();
        tally.add(&Seen { input: &output, output: &output, labels: None, reference: Some(&reference) }).unwrap();
        assert!((tally.finish().value - 0.5).abs() < 1e-6);
    }
}
