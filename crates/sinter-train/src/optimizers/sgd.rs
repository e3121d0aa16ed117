//! Stochastic gradient descent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::{Past, Shared, UpdateRule, add_scaled};

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
    fn step(&self, parameter: &mut Tensor, gradient: &Tensor, past: &mut Past, shared: &Shared) -> Result<(), TchError> {
        let mut direction = gradient.copy();
        if shared.weight_decay != 0.0 {
            add_scaled(&mut direction, parameter, shared.weight_decay)?;
        }
        if shared.momentum > 0.0 {
            match past.means.first_mut() {
                Some(mean) => drop(mean.f_mul_scalar_(shared.momentum)?.f_add_(&direction)?),
                // The first gradient counts in full.
                None => past.means = vec![direction.copy()],
            }
            match self.nesterov {
                true => add_scaled(&mut direction, &past.means[0], shared.momentum)?,
                false => direction = past.means[0].shallow_clone(),
            }
        }
        add_scaled(parameter, &direction, -shared.lr)
    }

    fn has_step_of_its_own(&self) -> bool {
        false
    }
}
