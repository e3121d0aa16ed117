//! What can be wrong with the folder of a language model.

use std::path::PathBuf;

use sinter_model::{OpError, WriteError};

/// Why a folder did not become a model, or a model a folder.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A file could not be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Nobody here knows how to compute it.
    #[error("{path}: the architecture `{architecture}` is not known; these are: {known}")]
    Architecture {
        /// config.json.
        path: PathBuf,
        /// As the file has it.
        architecture: String,
        /// What could be read.
        known: String,
    },
    /// A tensor is not what the configuration says, or not there.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// As the folder names it.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer has a format that the file to be written lacks.
    #[error("layer `{layer}` is {encoding}, and {format} has no such type: {help}")]
    Encoding {
        /// The layer.
        layer: String,
        /// As the model has it.
        encoding: String,
        /// What was to be written.
        format: &'static str,
        /// What would fit.
        help: String,
    },
    /// An operator refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl HubError {
    pub(crate) fn read(path: &std::path::Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn format(path: &std::path::Path, reason: impl ToString) -> Self {
        Self::Format { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(crate) fn tensor(name: &str, reason: impl ToString) -> Self {
        Self::Tensor { name: name.to_string(), reason: reason.to_string() }
    }
}

impl From<tch::TchError> for HubError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}
