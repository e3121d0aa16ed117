//! What the user writes under `mixed`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Bytes, Joules, Ratio};
use sinter_train::StageError;

/// Widths that layers choose from, under one budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixedConfig {
    /// Bits that a layer's weight may have. Default: 8, 4 and 2.
    #[serde(default = "widths")]
    pub widths: Vec<u8>,
    /// The most bytes that the weights of these layers may take, scales included, before entropy coding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// The most that quality may fall, counted as the stage's `accuracy_drop`: the fewest bytes at which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<Ratio>,
    /// The most energy of an inference on the pipeline's target: its physical floor, arithmetic and bytes moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Joules>,
}

fn widths() -> Vec<u8> {
    vec![8, 4, 2]
}

impl MixedConfig {
    pub(crate) fn check(&self) -> Result<(), StageError> {
        if self.widths.is_empty() || self.widths.iter().any(|w| !(2..=8).contains(w)) {
            return Err(StageError::config("mixed.widths", "widths are from 2 to 8 bits, such as [8, 4, 2]"));
        }
        let budgets = [self.size.is_some(), self.accuracy_drop.is_some(), self.energy.is_some()];
        match budgets.iter().filter(|b| **b).count() {
            1 => Ok(()),
            _ => Err(StageError::config("mixed", "write exactly one budget: `size`, `accuracy_drop` or `energy`")),
        }
    }

    /// The budget in words.
    pub(crate) fn budget_text(&self) -> String {
        let size = self.size.map(|s| format!("{s} of weights"));
        let drop = self.accuracy_drop.map(|d| format!("{d} of quality lost"));
        let energy = self.energy.map(|e| format!("{e} an inference"));
        size.or(drop).or(energy).unwrap_or_default()
    }
}
