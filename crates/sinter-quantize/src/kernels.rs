//! Quantization follows the target: its profile says which formats and operators its integer kernels take.

use serde::Serialize;
use sinter_estimate::{Instruction, Rules, Target};
use sinter_train::StageError;

use crate::formats::{Activations, Format};

/// A target's profile, read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Kernels {
    /// Whose they are.
    pub target: String,
    pub weights: Format,
    pub activations: Activations,
    /// Operators whose weights have one scale.
    pub per_tensor: Vec<String>,
    /// Operators that run on integers; `None` for all.
    operators: Option<Vec<String>>,
    pub rules: Rules,
    /// The instruction that they multiply with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assumes: Option<Instruction>,
}

impl Kernels {
    /// Whether an operator runs on integers.
    pub fn runs(&self, kind: &str) -> bool {
        self.operators.as_ref().is_none_or(|all| all.iter().any(|k| k == kind))
    }
}

impl Kernels {
    /// The profile of a target; `None` where it has none. Errors on one that can't be read.
    pub fn of(target: &Target) -> Result<Option<Self>, StageError> {
        let Some(profile) = &target.quantization else { return Ok(None) };
        let fail =
            |key: &str, reason: String| StageError::config("", format!("target `{}`, quantization.{key}: {reason}", target.name));
        Ok(Some(Self {
            target: target.name.clone(),
            weights: profile.weights.parse().map_err(|e| fail("weights", e))?,
            activations: profile.activations.parse().map_err(|e| fail("activations", e))?,
            per_tensor: profile.per_tensor.clone(),
            operators: profile.operators.clone(),
            rules: profile.rules,
            assumes: profile.assumes,
        }))
    }
}
