//! Why statistics could not be gathered.

use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_model::{ModelError, OpError};
use sinter_task::TaskError;

use crate::not_finite::NotFinite;

/// Why statistics could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The model did not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The samples could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The loss could not be computed.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model lacks a weight.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The float model does not compute numbers.
    #[error("the float model computes NaN: {0}")]
    NotANumber(NotFinite),
    /// A statistic could not be computed.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl From<tch::TchError> for CalibrateError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}
