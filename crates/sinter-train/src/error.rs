//! Why a stage did not work.

use sinter_calibrate::CalibrateError;
use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_model::{ModelError, OpError};
use sinter_task::TaskError;

/// Why a stage did not work. The runner adds the stage's name.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The model did not run; names the node.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The model lacks something, or broke an invariant; names the weight.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The samples could not be read; names the file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No quality or loss could be computed.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Statistics could not be gathered.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// A computation with a weight failed.
    #[error("weight `{weight}`: {source}")]
    Weight {
        /// Its name.
        weight: String,
        /// What went wrong.
        source: OpError,
    },
    /// A computation failed.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The configuration asks for something that this model or data can't give.
    #[error("{reason}")]
    Config {
        /// The path of the key within the stage.
        key: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        help: Option<String>,
    },
    /// Training stopped being one.
    #[error("training diverged in epoch {epoch}: the loss is {loss}; lower `lr` (now {lr})")]
    Diverged {
        /// Counted from one.
        epoch: usize,
        /// Its mean loss.
        loss: f64,
        /// The learning rate.
        lr: f64,
    },
    /// The user asked to stop; what was done so far is kept.
    #[error("stopped at {at}")]
    Stopped {
        /// How far the work is.
        at: String,
    },
}

impl From<tch::TchError> for StageError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}

impl StageError {
    /// The configuration can't be followed.
    pub fn config(key: &str, reason: impl Into<String>) -> Self {
        Self::Config { key: key.to_string(), reason: reason.into(), help: None }
    }

    /// The same with what to do.
    pub fn config_help(key: &str, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Config { key: key.to_string(), reason: reason.into(), help: Some(help.into()) }
    }

    /// Names the weight at fault.
    pub fn weight(name: &str) -> impl Fn(OpError) -> StageError + '_ {
        move |source| StageError::Weight { weight: name.to_string(), source }
    }
}
