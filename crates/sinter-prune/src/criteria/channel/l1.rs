//! Sum of magnitudes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Model;
use sinter_train::{Context, StageError};

use super::{Criterion, joined, of_outputs, sums};
use crate::channels::Group;

/// The sum of the magnitudes of the channel's weights (Li et al., 2017). Costs nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct L1 {}

impl Criterion for L1 {
    fn score(&self, model: &Model, groups: &[Group], _context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
        Ok(joined(groups, &of_outputs(model, |_, value, axis| sums(&value.f_abs()?, axis))?))
    }
}
