//! Numbers to be met.

use sinter_data::{Batch, Dataset};
use tch::Tensor;

use super::{Work, not_as_many};
use crate::error::TaskError;
use crate::losses::{HardTargets, squared_error};

/// The squared error.
pub(super) struct Regress;

impl Work for Regress {
    fn verb(&self) -> &'static str {
        "predicts numbers"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        not_as_many(output, data)
    }

    fn loss(&self, output: &Tensor, batch: &Batch, _hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        batch.y.as_ref().map(|labels| squared_error(output, labels)).transpose()
    }
}
