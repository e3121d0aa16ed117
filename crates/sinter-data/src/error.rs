//! What can be wrong with a data set.

use std::path::PathBuf;

/// Why data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file is not there.
    #[error("data file {path} is missing{}", hint_text(.hint))]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// What to do, where somebody knows.
        hint: Option<String>,
    },
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
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is nothing to learn from or to test on.
    #[error("data set `{name}` is empty: {reason}")]
    Empty {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The data file asks for what can't be.
    #[error("data set `{name}`: {reason}")]
    Invalid {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// libtorch threw.
    #[error("data set `{name}`: libtorch: {source}")]
    Torch {
        /// Its name.
        name: String,
        /// What went wrong.
        source: tch::TchError,
    },
}

fn hint_text(hint: &Option<String>) -> String {
    hint.as_ref().map_or_else(String::new, |h| format!(": {h}"))
}

impl DataError {
    pub(crate) fn read(path: &std::path::Path) -> impl Fn(std::io::Error) -> DataError + '_ {
        move |source| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::Missing { path: path.to_path_buf(), hint: None },
            _ => DataError::Read { path: path.to_path_buf(), source },
        }
    }

    pub(crate) fn format(path: &std::path::Path, reason: impl ToString) -> DataError {
        DataError::Format { path: path.to_path_buf(), reason: reason.to_string() }
    }
}
