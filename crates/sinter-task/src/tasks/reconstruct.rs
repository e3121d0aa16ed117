//! What comes in shall come out.

use sinter_data::{Batch, Dataset};
use tch::Tensor;

use super::{Work, per_sample};
use crate::error::TaskError;
use crate::losses::{HardTargets, squared_error};

/// The squared error of the input; labels only mark anomalies.
pub(super) struct Reconstruct;

impl Work for Reconstruct {
    fn verb(&self) -> &'static str {
        "reconstructs"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        let wanted = data.shape().iter().product::<i64>();
        (per_sample(output) != wanted).then(|| format!("has {wanted} values to reconstruct"))
    }

    fn unteachable(&self, _labelled: bool) -> Option<&'static str> {
        None
    }

    fn loss(&self, output: &Tensor, batch: &Batch, _hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        squared_error(output, batch.x()).map(Some)
    }
}
