//! Why a model has no program for devices.

use sinter_exec::ExecError;
use sinter_model::OpError;

/// Why a model has no program for devices.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// A node has no counterpart.
    #[error("node `{node}` ({kind}): {reason}")]
    Node {
        /// Its name.
        node: String,
        /// Its operator.
        kind: String,
        /// What is missing.
        reason: String,
    },
    /// A value has no place.
    #[error("value `{value}`: {reason}")]
    Value {
        /// Its name.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The model did not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A computation failed.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl From<tch::TchError> for LowerError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}
