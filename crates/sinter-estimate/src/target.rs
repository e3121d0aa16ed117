//! A target as YAML describes it.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sinter_model::Bytes;

/// Hardware that a model is meant for. Every figure names its source.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub name: String,
    /// What it is, for the report.
    pub description: String,
    /// Memory for weights. Default: unbounded.
    #[serde(default)]
    pub flash: Option<Bytes>,
    /// Memory for activations. Default: unbounded.
    #[serde(default)]
    pub ram: Option<Bytes>,
    pub floor: FloorEnergy,
    /// Measured on boards of this kind. Default: none known.
    #[serde(default)]
    pub board: Option<BoardEnergy>,
}

/// The built-in target: no hardware in particular.
pub static GENERIC: LazyLock<Target> = LazyLock::new(|| {
    let text = include_str!("../../../configs/targets/generic.yaml");
    serde_yaml::from_str(text).unwrap_or_else(|e| unreachable!("the built-in target is read by a test: {e}"))
});

/// Energy of single operations, in picojoules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FloorEnergy {
    /// An 8-bit multiplication with a 32-bit addition.
    pub mac_int8_pj: f64,
    /// A float32 multiplication with an addition.
    pub mac_float32_pj: f64,
    /// Reading or writing one byte of the memory that holds weights and activations.
    pub byte_pj: f64,
    pub source: String,
}

/// Energy per multiply-accumulate of a whole int8 inference, in picojoules: the range over published results.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardEnergy {
    pub low_pj_per_mac: f64,
    pub high_pj_per_mac: f64,
    pub source: String,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_built_in_target_reads() {
        assert_eq!(super::GENERIC.name, "generic");
    }
}
