//! Why nothing could be certified.

use sinter_exec::ExecError;
use sinter_model::OpError;

/// Why nothing could be certified.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The model does not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A tensor could not be computed.
    #[error(transparent)]
    Op(#[from] OpError),
    /// There is nothing to certify.
    #[error("{0}")]
    Nothing(String),
}

impl From<tch::TchError> for CertifyError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}
