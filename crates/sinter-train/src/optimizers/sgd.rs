//! Stochastic gradient descent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::nn::{self, OptimizerConfig};

use super::{Shared, UpdateRule};

/// Stochastic gradient descent with momentum, by default Nesterov's (Sutskever et al., 2013). Wants a learning rate found for the model; often
/// generalises best. One number a weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgd {
    /// Look ahead along the momentum. Default: true.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { nesterov: true }
    }
}

impl UpdateRule for Sgd {
    fn build(&self, store: &nn::VarStore, shared: &Shared) -> Result<nn::Optimizer, tch::TchError> {
        let momentum = shared.momentum;
        let nesterov = self.nesterov && momentum > 0.0;
        nn::Sgd { momentum, wd: shared.weight_decay, nesterov, dampening: 0.0 }.build(store, shared.lr)
    }

    fn has_step_of_its_own(&self) -> bool {
        false
    }
}
