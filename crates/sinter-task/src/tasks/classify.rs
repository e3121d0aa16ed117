//! One class for each sample.

use sinter_data::{Batch, Dataset};
use sinter_model::Operator;
use tch::Tensor;

use super::{Work, logarithms, soft_targets};
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, cross_entropy};

/// Cross entropy of the labels, soft targets of a teacher.
pub(super) struct Classify;

impl Work for Classify {
    fn verb(&self) -> &'static str {
        "classifies"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        let wanted = data.classes.len() as i64;
        let wrong = data.test.is_labelled() && (super::per_sample(output) < wanted || output.len() != 2);
        wrong.then(|| format!("has {wanted} classes"))
    }

    fn logits(&self, last: &dyn Operator) -> Option<usize> {
        last.logits()
    }

    fn loss(&self, output: &Tensor, batch: &Batch, hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        let Some(labels) = &batch.y else { return Ok(None) };
        let logits = logarithms(output, hard.probabilities)?;
        cross_entropy(&logits, labels, hard.label_smoothing).map(Some)
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        soft: &SoftTargets,
        hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        soft_targets(output, taught, soft, hard)
    }
}
