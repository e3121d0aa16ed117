//! Adam with weight decay of its own (Loshchilov and Hutter, 2019).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::adam::Adam;
use super::{Past, Shared, UpdateRule};

/// Adam whose weight decay does not pass through the gradient's mean (AdamW; Loshchilov and Hutter, 2019). For trainings with `weight_decay`.
/// Two numbers a weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adamw {
    /// How much of the past the mean of gradients keeps. Default: 0.9.
    #[serde(deserialize_with = "super::decay")]
    pub beta1: f64,
    /// How much of the past the mean of their squares keeps. Default: 0.999.
    #[serde(deserialize_with = "super::decay")]
    pub beta2: f64,
}

impl Default for Adamw {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999 }
    }
}

impl UpdateRule for Adamw {
    fn step(&self, parameter: &mut Tensor, gradient: &Tensor, past: &mut Past, shared: &Shared) -> Result<(), TchError> {
        if shared.weight_decay != 0.0 {
            let _same = parameter.f_mul_scalar_(1.0 - shared.lr * shared.weight_decay)?;
        }
        Adam { beta1: self.beta1, beta2: self.beta2 }.walk(parameter, gradient, past, shared.lr)
    }
}
