//! Adam (Kingma and Ba, 2015).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{TchError, Tensor};

use super::{Past, Shared, UpdateRule, add_scaled};

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

/// Keeps the root mean square away from zero.
const EPSILON: f64 = 1e-8;

impl UpdateRule for Adam {
    fn step(&self, parameter: &mut Tensor, gradient: &Tensor, past: &mut Past, shared: &Shared) -> Result<(), TchError> {
        let mut gradient = gradient.shallow_clone();
        if shared.weight_decay != 0.0 {
            gradient = gradient.copy();
            add_scaled(&mut gradient, parameter, shared.weight_decay)?;
        }
        self.walk(parameter, &gradient, past, shared.lr)
    }
}

impl Adam {
    /// A step without weight decay.
    pub(super) fn walk(&self, parameter: &mut Tensor, gradient: &Tensor, past: &mut Past, lr: f64) -> Result<(), TchError> {
        if past.means.is_empty() {
            past.means = vec![gradient.f_zeros_like()?, gradient.f_zeros_like()?];
        }
        let [mean, square] = &mut past.means[..] else {
            return Err(TchError::Torch(format!("Adam keeps two means of a parameter, not {}", past.means.len())));
        };
        let _same = mean.f_mul_scalar_(self.beta1)?;
        add_scaled(mean, gradient, 1.0 - self.beta1)?;
        let part = gradient.f_mul_scalar(1.0 - self.beta2)?;
        let _same = square.f_mul_scalar_(self.beta2)?.f_addcmul_(&part, gradient)?;
        // What the means lack as long as they remember their start at zero.
        let (mean_share, square_share) = (1.0 - self.beta1.powi(past.steps), 1.0 - self.beta2.powi(past.steps));
        let root = square.f_sqrt()?.f_div_scalar_(square_share.sqrt())?.f_add_scalar_(EPSILON)?;
        let _same = parameter.f_addcdiv_(&mean.f_mul_scalar(-lr / mean_share)?, &root)?;
        Ok(())
    }
}
