//! At random.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Model;
use sinter_train::{Context, StageError};

use super::Criterion;
use crate::channels::Group;

/// A control: any channel, by the seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {}

impl Criterion for Random {
    fn score(&self, _model: &Model, groups: &[Group], context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
        let mut rng = fastrand::Rng::with_seed(context.seed);
        Ok(groups.iter().map(|g| g.channels.iter().map(|_| rng.f64()).collect()).collect())
    }
}
