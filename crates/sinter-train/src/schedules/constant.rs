//! A constant learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Curve;

/// The learning rate stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {}

impl Curve for Constant {
    fn factor(&self, _done: f64) -> f64 {
        1.0
    }
}
