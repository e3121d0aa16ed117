//! What can be wrong with a data set.

use std::path::PathBuf;

/// Why data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("data file {path} is missing{}", told(.hint))]
    Missing { path: PathBuf, hint: Option<String> },
    #[error("could not read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Format { path: PathBuf, reason: String },
    #[error("data set `{name}` is empty: {reason}")]
    Empty { name: String, reason: String },
    #[error("data set `{name}`: {reason}")]
    Invalid { name: String, reason: String },
    #[error("data set `{name}`: libtorch: {source}")]
    Torch { name: String, source: tch::TchError },
}

fn told(hint: &Option<String>) -> String {
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
