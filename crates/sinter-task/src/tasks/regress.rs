//! Numbers to be met.

use sinter_data::{Batch, Dataset};
use tch::Tensor;

use super::{Work, per_sample};
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, squared_error};

/// The squared error.
pub(super) struct Regress;

impl Work for Regress {
    fn verb(&self) -> &'static str {
        "predicts numbers"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        let shape = data.test.label_shape()?;
        (per_sample(output) != shape.iter().product::<i64>()).then(|| format!("has labels of shape {shape:?}"))
    }

    fn loss(&self, output: &Tensor, batch: &Batch, _hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        batch.y.as_ref().map(|labels| squared_error(output, labels)).transpose()
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        _soft: &SoftTargets,
        _hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        squared_error(output, taught)
    }
}
