//! Movement toward zero while training.

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::Criterion;
use crate::criteria::Needs;

/// Whether training moves the weight toward zero (Sanh et al., 2020). For models that are fine-tuned to another task. Needs
/// `schedule: { cubic: {} }`; costs one sum a weight.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Movement {}

impl Criterion for Movement {
    fn needs(&self) -> Needs {
        Needs::Samples
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        seen.map_or_else(|| value.f_abs(), |term| Ok(term.shallow_clone()))
    }

    fn training_term(&self, value: &Tensor, gradient: &Tensor) -> Option<(Result<Tensor, TchError>, f64)> {
        // A step along -gradient moves the weight away from zero where their signs agree.
        Some((value.f_mul(gradient).and_then(|t| t.f_neg()), 1.0))
    }

    fn only_while_training(&self) -> bool {
        true
    }
}
