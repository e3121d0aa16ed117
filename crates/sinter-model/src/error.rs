//! Why an operator could not answer.

use tch::TchError;

/// What an operator says when it cannot run; the caller adds the node's name.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// libtorch raised an exception; only its first line is shown, the rest is a C++ stack trace.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] TchError),
    #[error("{0}")]
    Invalid(String),
}

/// The result of asking an operator something.
pub type OpResult<T> = Result<T, OpError>;

fn first_line(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or("unknown error").trim().to_string()
}

/// Returns early with an [`OpError::Invalid`].
macro_rules! invalid {
    ($($arg:tt)*) => {
        return Err($crate::OpError::Invalid(format!($($arg)*)))
    };
}
pub(crate) use invalid;
