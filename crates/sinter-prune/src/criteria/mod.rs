//! What makes weights and channels dispensable: two families, one file a criterion.

pub mod channel;
pub mod weight;

use sinter_data::{Dataset, Task};
use sinter_train::StageError;

pub use channel::ChannelCriterion;
pub use weight::WeightCriterion;

/// What a criterion looks at besides the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing.
    Weights,
    /// Training samples.
    Samples,
    /// Training samples with labels.
    Labels,
}

impl Needs {
    /// Errors where the data lack what is needed. `key` is that of the criterion.
    pub(crate) fn check(self, data: &Dataset, key: &str) -> Result<(), StageError> {
        if self >= Needs::Samples && data.train.is_empty() {
            return Err(StageError::config(key, "this criterion needs training samples, and there are none"));
        }
        if self == Needs::Labels && data.task == Task::Classify && !data.train.is_labelled() {
            return Err(StageError::config(key, "this criterion needs labelled training samples"));
        }
        Ok(())
    }
}

/// Training samples that gradients and input norms come from, unless the user says otherwise.
pub(crate) const SAMPLES: usize = 2048;

/// For `#[serde(default)]` of options that count samples.
pub(crate) fn samples() -> usize {
    SAMPLES
}
