//! The mean squared error of a reconstruction.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::{Kind, Tensor};

use super::means::Means;
use super::{Measure, Seen, Tally, rows_of};
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
        matches!(task, Task::Reconstruct(_))
    }

    fn start(&self) -> Box<dyn Tally> {
        Means::of(row_errors)
    }
}

/// The mean squared error of each sample, `[n]`.
pub(super) fn row_errors(seen: &Seen) -> Result<Tensor, TaskError> {
    Ok(rows_of(seen.output())?.f_sub(&rows_of(seen.input)?)?.f_square()?.f_mean_dim(1, false, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_data::Reconstruct;

    #[test]
    fn a_mean_of_squares() {
        let (input, output) = (Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0]), Tensor::from_slice(&[1f32, 2.0, 1.0, 1.0]));
        let (input, outputs) = (input.reshape([2, 2]), [output.reshape([2, 1, 2])]);
        let mut tally = Mse {}.start();
        let task = Task::Reconstruct(Reconstruct::default());
        let seen = Seen { task, input: &input, outputs: &outputs, labels: None, references: None, probabilities: false };
        tally.add(&seen).unwrap();
        assert_eq!(tally.value(&[1, 1]), 1.25);
        assert_eq!(tally.value(&[3, 1]), 1.875);
    }
}
