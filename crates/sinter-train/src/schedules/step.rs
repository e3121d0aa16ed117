//! Steps of a factor of ten.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Curve;

/// A tenth after half the steps, a hundredth after three quarters (as He et al., 2016, train residual networks).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {}

impl Curve for Step {
    fn factor(&self, done: f64) -> f64 {
        match done {
            d if d < 0.5 => 1.0,
            d if d < 0.75 => 0.1,
            _ => 0.01,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_a_tenth() {
        assert_eq!([0.0, 0.49, 0.5, 0.74, 0.75, 1.0].map(|done| Step {}.factor(done)), [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]);
    }
}
