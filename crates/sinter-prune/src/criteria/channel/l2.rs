//! Euclidean norm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Model;
use sinter_train::{Context, StageError};

use super::{Criterion, joined, norms, of_outputs};
use crate::channels::Group;

/// The Euclidean norm of the channel's weights (He et al., 2018). Costs nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct L2 {}

impl Criterion for L2 {
    fn score(&self, model: &Model, groups: &[Group], _context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
        Ok(joined(groups, &of_outputs(model, |_, value, axis| norms(value, axis))?))
    }
}
