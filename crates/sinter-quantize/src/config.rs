//! The configuration of `quantize`.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::{Levels, Model};
use sinter_train::{FitConfig, StageError};

/// Puts weights and activations on integer grids.
///
/// ```yaml
/// - quantize: { weights: int8/channel, activations: uint8, calibrate: mse, mode: qat, finetune: { epochs: 2 } }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeConfig {
    /// `int8/channel`, `int4/tensor` and so on. Default: int8/channel.
    #[serde(default = "int8_channel")]
    pub weights: GridText,
    /// `uint8`, `int8`, or `none` for weights only. Default: uint8, which x86 runs fastest.
    #[serde(default = "uint8", with = "activations")]
    pub activations: Option<GridText>,
    /// How the range of an activation is chosen. Default: mse.
    #[serde(default)]
    pub calibrate: Calibration,
    /// Training samples to calibrate with. Default: 512.
    #[serde(default = "samples")]
    pub samples: usize,
    /// `ptq` quantizes and stops; `qat` trains with the grids in place. Default: ptq.
    #[serde(default)]
    pub mode: Mode,
    /// Training of `mode: qat`. Default: 2 epochs at lr 1e-4 with the float model as teacher.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

/// How the range of an activation is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// All that was seen.
    MinMax,
    /// All but the outermost 0.01 % on each side.
    Percentile,
    /// The range of least squared error (Banner et al., 2019).
    #[default]
    Mse,
}

/// When quantization happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// After training.
    #[default]
    Ptq,
    /// During training.
    Qat,
}

/// A grid as text: `int8`, `uint8`, `int4/channel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridText {
    pub bits: u8,
    pub levels: Levels,
    pub per_channel: bool,
}

impl FromStr for GridText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("`{text}` is not a grid: write int8, uint8, int8/channel, int4/tensor or so, with 2 to 8 bits");
        let (kind, reach) = text.split_once('/').unwrap_or((text, "tensor"));
        let per_channel = match reach {
            "channel" => true,
            "tensor" => false,
            _ => return Err(fail()),
        };
        let (levels, bits) = match kind.strip_prefix("uint") {
            Some(bits) => (Levels::Unsigned, bits),
            None => (Levels::Signed, kind.strip_prefix("int").ok_or_else(fail)?),
        };
        let bits = bits.parse::<u8>().ok().filter(|b| (2..=8).contains(b)).ok_or_else(fail)?;
        Ok(Self { bits, levels, per_channel })
    }
}

impl std::fmt::Display for GridText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.levels == Levels::Unsigned { "u" } else { "" };
        write!(f, "{sign}int{}{}", self.bits, if self.per_channel { "/channel" } else { "" })
    }
}

impl Serialize for GridText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GridText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a grid such as int8/channel")
    }
}

mod activations {
    use super::*;

    struct Choice(Option<GridText>);

    impl FromStr for Choice {
        type Err = String;
        fn from_str(text: &str) -> Result<Self, String> {
            if text == "none" { Ok(Self(None)) } else { text.parse().map(|grid| Self(Some(grid))) }
        }
    }

    pub fn serialize<S: Serializer>(value: &Option<GridText>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(grid) => grid.serialize(serializer),
            None => serializer.serialize_str("none"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<GridText>, D::Error> {
        Ok(sinter_model::from_text::<Choice, D>(deserializer, "a grid such as uint8, or none")?.0)
    }
}

fn int8_channel() -> GridText {
    GridText { bits: 8, levels: Levels::Signed, per_channel: true }
}

fn uint8() -> Option<GridText> {
    Some(GridText { bits: 8, levels: Levels::Unsigned, per_channel: false })
}

fn samples() -> usize {
    512
}

impl QuantizeConfig {
    pub(crate) fn check_config(&self, model: &Model) -> Result<(), StageError> {
        if self.weights.levels == Levels::Unsigned {
            return Err(StageError::config("weights", "weights take signed grids: write int8, not uint8"));
        }
        if self.activations.is_some_and(|a| a.per_channel) {
            return Err(StageError::config("activations", "activations take one scale a tensor: write uint8 or int8"));
        }
        if self.activations.is_some_and(|a| a.bits != 8) {
            return Err(StageError::config("activations", "activations take 8 bits, as the runtimes do: write uint8 or int8"));
        }
        if self.samples == 0 {
            return Err(StageError::config("samples", "calibration needs at least one sample"));
        }
        if self.mode == Mode::Ptq && self.finetune.is_some() {
            return Err(StageError::Config {
                key: "finetune".into(),
                reason: "`finetune` goes with `mode: qat`".into(),
                help: Some("write `mode: qat`, or drop `finetune`".into()),
            });
        }
        if model.graph.nodes.iter().any(|n| matches!(n.kind(), "QuantizeLinear" | "DequantizeLinear")) {
            return Err(StageError::config(
                "",
                "the model is already quantized: it holds QuantizeLinear or DequantizeLinear nodes",
            ));
        }
        if model.layers().is_empty() {
            return Err(StageError::config("", "the model has no layer with weights to quantize"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_read_and_write() {
        for text in ["int8/channel", "uint8", "int4", "int2/channel"] {
            assert_eq!(text.parse::<GridText>().unwrap().to_string(), text);
        }
        for text in ["int9", "float8", "int8/row", "int", "8"] {
            assert!(text.parse::<GridText>().is_err(), "{text}");
        }
    }
}
