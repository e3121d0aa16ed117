//! What makes weights and channels dispensable: two families, one file a criterion.

pub mod channel;
pub mod weight;

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::{Dataset, Split};
use sinter_train::{Context, StageError};

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
        let unteachable = sinter_task::tasks::of(data.task).unteachable(data.train.is_labelled());
        if let Some(wanted) = unteachable.filter(|_| self == Needs::Labels) {
            return Err(StageError::config(key, format!("this criterion looks at gradients, and these need {wanted}")));
        }
        Ok(())
    }
}

/// How many training samples a criterion looks at: at least one, since of none all it could say is that nothing matters. Default: 2048.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Samples(NonZeroUsize);

impl Samples {
    /// So many.
    pub(crate) const fn new(count: NonZeroUsize) -> Self {
        Self(count)
    }

    /// The samples, by the stage's seed.
    pub(crate) fn draw(self, context: &Context) -> Split {
        context.data.train.sample(self.0.get(), context.seed)
    }
}

impl Default for Samples {
    fn default() -> Self {
        const { Self(NonZeroUsize::new(2048).unwrap()) }
    }
}
