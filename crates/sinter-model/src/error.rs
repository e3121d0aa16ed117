//! Why an operator could not answer.

use tch::TchError;

/// What has no place in the integers of a kernel.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DoesNotFit {
    /// A factor that no 31-bit multiplier and shift express.
    #[error("a sum can't be rescaled by {0}")]
    Factor(f64),
    /// A bias beyond 32 bits in steps of its scale.
    #[error("the bias {value} of channel {channel} takes {steps:.3e} steps of its scale {scale:e}, more than 32 bits hold")]
    Bias {
        /// The output channel.
        channel: usize,
        /// The bias.
        value: f32,
        /// `input scale * weight scale`.
        scale: f64,
        /// The bias over its scale.
        steps: f64,
    },
}

/// What an operator says when it cannot run; the caller adds the node's name.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// libtorch raised an exception; only its first line is shown, the rest is a C++ stack trace.
    #[error("libtorch: {}", first_line(.0))]
    Torch(#[from] TchError),
    /// A number that integer kernels have no place for.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    /// What was asked for can't be.
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
