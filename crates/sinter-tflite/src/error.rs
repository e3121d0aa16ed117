//! Why a file did not become a model.

use std::path::PathBuf;

use sinter_model::{Bytes, OpError};

/// Why a file did not become a model.
#[derive(Debug, thiserror::Error)]
pub enum TfliteError {
    /// The file could not be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than what may be read.
    #[error("the file has {bytes}, more than the limit of {limit}: raise it with --memory where that is meant")]
    Large {
        /// Its size.
        bytes: Bytes,
        /// The limit.
        limit: Bytes,
    },
    /// The bytes are no TFLite file.
    #[error("not a complete TFLite file: {0}")]
    Decode(String),
    /// What it holds is not read.
    #[error("{0}")]
    Unsupported(String),
    /// An operator is not read.
    #[error("operator {index}, {kind}: {reason}")]
    Operator {
        /// Its place in the file.
        index: usize,
        /// Its name in TensorFlow's schema, or its number.
        kind: String,
        /// Why.
        reason: String,
    },
    /// A tensor is not what it should be.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A tensor could not be made.
    #[error(transparent)]
    Op(#[from] OpError),
}

impl From<tch::TchError> for TfliteError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}
