//! Why a model could not be measured, or no loss computed.

use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_model::OpError;

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

/// Why a command of the user's gave no value.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is none.
    #[error("the metric's command is empty: write `metric: {{ command: {{ run: [python3, my.py] }} }}`")]
    Empty,
    /// It could not be started.
    #[error("the metric's command `{command}` could not be started: {source}")]
    Start {
        /// As it was written.
        command: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It failed.
    #[error("the metric's command `{command}` ended with {status}{said}")]
    Failed {
        /// As it was written.
        command: String,
        /// As the system tells it.
        status: String,
        /// The end of what it said, behind a colon.
        said: String,
    },
    /// What it printed is no value.
    #[error(
        "the metric's command `{command}` should print a line such as {{\"value\": 0.91}}, and printed `{printed}`: {reason}"
    )]
    Printed {
        /// As it was written.
        command: String,
        /// The last line of it.
        printed: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The arrays could not be written for it.
    #[error("arrays for the metric's command could not be written: {0}")]
    Arrays(#[from] std::io::Error),
}
