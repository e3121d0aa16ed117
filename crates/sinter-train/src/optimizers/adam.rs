//! Adam (Kingma and Ba, 2015).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::nn::{self, OptimizerConfig};

use super::{Shared, UpdateRule};

/// Steps by the mean of the gradient over its root mean square (Adam; Kingma and Ba, 2015). Needs little tuning. Two numbers a weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Adam {
    /// How much of the past the mean of gradients keeps. Default: 0.9.
    #[serde(deserialize_with = "super::decay")]
    pub beta1: f64,
    /// How much of the past the mean of their squares keeps. Default: 0.999.
    #[serde(deserialize_with = "super::decay")]
    pub beta2: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999 }
    }
}

impl UpdateRule for Adam {
    fn build(&self, store: &nn::VarStore, shared: &Shared) -> Result<nn::Optimizer, tch::TchError> {
        nn::Adam { beta1: self.beta1, beta2: self.beta2, wd: shared.weight_decay, ..nn::Adam::default() }.build(store, shared.lr)
    }
}
