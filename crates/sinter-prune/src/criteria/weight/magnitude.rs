//! Magnitude.

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::Criterion;

/// The magnitude of the weight (Han et al., 2015). Costs nothing; with fine-tuning hard to beat.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Magnitude {}

impl Criterion for Magnitude {
    fn score(&self, value: &Tensor, _seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        value.f_abs()
    }
}
