//! Labels that each hold or do not.

use sinter_data::{Batch, Dataset};
use sinter_model::Operator;
use tch::Tensor;

use super::{Work, not_as_many};
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, binary_cross_entropy, binary_soft_targets};

/// Cross entropy of each label by itself.
pub(super) struct MultiLabel;

impl Work for MultiLabel {
    fn verb(&self) -> &'static str {
        "says which of several labels hold"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        not_as_many(output, data)
    }

    fn logits(&self, last: &dyn Operator) -> Option<usize> {
        last.logistic()
    }

    fn loss(&self, output: &Tensor, batch: &Batch, hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        batch.y.as_ref().map(|labels| binary_cross_entropy(output, labels, hard.probabilities)).transpose()
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        _soft: &SoftTargets,
        hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        binary_soft_targets(output, taught, hard.probabilities)
    }
}
