//! At random.

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::Criterion;

/// A control: any weight, by the seed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {}

impl Criterion for Random {
    fn score(&self, value: &Tensor, _seen: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor, TchError> {
        let numbers: Vec<f32> = (0..value.numel()).map(|_| rng.f32()).collect();
        Tensor::f_from_slice(&numbers)?.f_reshape(value.size())
    }
}
