//! Why a model could not be measured, or no loss computed.

use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_model::OpError;

use crate::metrics::CommandError;

/// Why a model could not be measured, or no loss computed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The model did not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The samples could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An operation on outputs failed.
    #[error(transparent)]
    Op(#[from] OpError),
    /// There is nothing to measure on.
    #[error("there is no sample to measure on")]
    NoSamples,
    /// The model puts nothing out.
    #[error("the model has no output")]
    NoOutput,
    /// The labels are missing.
    #[error("{0} needs labels, and the data set has none")]
    NoLabels(&'static str),
    /// The user's own metric gave no value.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A runtime outside of Sinter failed.
    #[error("{0}")]
    Runtime(String),
}

impl From<tch::TchError> for TaskError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}
