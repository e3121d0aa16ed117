//! The squared error.

use tch::{Reduction, Tensor};

use crate::error::TaskError;

/// The mean over all values; `wanted` has as many as `output`.
pub(crate) fn loss(output: &Tensor, wanted: &Tensor) -> Result<Tensor, TaskError> {
    Ok(output.f_mse_loss(&wanted.f_reshape(output.size())?, Reduction::Mean)?)
}
