//! Quantization follows the target: its profile says which formats and operators its integer kernels take.

use sinter_estimate::{Rules, Target};
use sinter_train::StageError;

use crate::config::{Activations, Format, QuantizeConfig};

/// A target's profile, read.
#[derive(Debug, Clone)]
pub(crate) struct Kernels {
    pub weights: Format,
    pub activations: Activations,
    /// Operators whose weights have one scale.
    pub per_tensor: Vec<String>,
    /// Operators that run on integers; `None` for all.
    operators: Option<Vec<String>>,
    pub rules: Rules,
}

impl Kernels {
    /// Whether an operator runs on integers.
    pub fn runs(&self, kind: &str) -> bool {
        self.operators.as_ref().is_none_or(|all| all.iter().any(|k| k == kind))
    }
}

impl QuantizeConfig {
    /// The configuration for a target: what the user left open is as its kernels take it. Errors on a profile that can't be read.
    pub(crate) fn on(&self, target: &Target) -> Result<Self, StageError> {
        let Some(profile) = &target.quantization else { return Ok(self.clone()) };
        let fail =
            |key: &str, reason: String| StageError::config("", format!("target `{}`, quantization.{key}: {reason}", target.name));
        let kernels = Kernels {
            weights: profile.weights.parse().map_err(|e| fail("weights", e))?,
            activations: profile.activations.parse().map_err(|e| fail("activations", e))?,
            per_tensor: profile.per_tensor.clone(),
            operators: profile.operators.clone(),
            rules: profile.rules,
        };
        Ok(Self { profile: Some(kernels), ..self.clone() })
    }
}
