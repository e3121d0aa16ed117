//! Rounding to nearest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RoundingMethod;

/// Each weight to the nearest level, ties to even. Right from 8 bits on, and while a model trains. Costs nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nearest {}

impl RoundingMethod for Nearest {}
