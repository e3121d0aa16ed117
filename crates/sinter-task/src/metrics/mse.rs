//! The mean squared error of a reconstruction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::{Kind, Tensor};

use super::{Measure, Outcome, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The mean squared error between output and input. For autoencoders without labels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mse {}

impl Measure for Mse {
    fn metric(&self) -> Metric {
        Metric::error("MSE")
    }

    fn fits(&self, task: Task, _labelled: bool) -> bool {
        task == Task::Reconstruct
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Mean::default())
    }
}

/// The mean squared error of each sample, `[n]`.
pub(super) fn row_errors(seen: &Seen) -> Result<Tensor, TaskError> {
    Ok(seen.output.f_sub(seen.input)?.f_square()?.f_mean_dim(1, false, Kind::Float)?)
}

/// A mean over samples.
#[derive(Default)]
pub(super) struct Mean {
    sum: f64,
    samples: i64,
}

impl Mean {
    /// Takes in one value a sample.
    pub fn take(&mut self, each: &Tensor) -> Result<(), TaskError> {
        self.sum += each.f_sum(Kind::Double)?.f_double_value(&[])?;
        self.samples += each.numel() as i64;
        Ok(())
    }

    /// The mean.
    pub fn value(&self) -> f64 {
        self.sum / self.samples.max(1) as f64
    }
}

impl Tally for Mean {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        self.take(&row_errors(seen)?)
    }

    fn finish(self: Box<Self>) -> Outcome {
        Outcome { value: self.value(), ..Outcome::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_squares() {
        let (input, output) = (Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0]), Tensor::from_slice(&[1f32, 2.0, 1.0, 1.0]));
        let (input, output) = (input.reshape([2, 2]), output.reshape([2, 2]));
        let mut tally = Mse {}.start();
        tally.add(&Seen { input: &input, output: &output, labels: None, reference: None }).unwrap();
        assert_eq!(tally.finish().value, 1.25);
    }
}
