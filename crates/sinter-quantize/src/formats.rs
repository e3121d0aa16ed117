//! Number formats, as users write them: `int8/channel`, `int4/group:128`, `fp16`.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::{Half, Levels};

/// A number format as text: `int8`, `uint4`, `ternary/channel`, `int4/group:128`, `fp16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// How one number is kept.
    pub number: Number,
    /// How many share a scale.
    pub per: Per,
}

/// How one number is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// An integer with a scale.
    Integer {
        /// Its width.
        bits: u8,
        /// Its sign.
        levels: Levels,
    },
    /// Sixteen bits of floating point.
    Half(Half),
}

/// How many weights share a scale: the granularity, before it is known which axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// All of the tensor.
    Tensor,
    /// Those of one output channel.
    Channel,
    /// So many along the input channels, the group size.
    Group(usize),
}

impl Format {
    /// The width of a number.
    pub fn bits(self) -> u8 {
        match self.number {
            Number::Integer { bits, .. } => bits,
            Number::Half(_) => 16,
        }
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fail =
            || format!("`{text}` is not a format: write int8/channel, int4/group:128, uint8, ternary, binary, fp16, bf16 or so");
        let (kind, per) = text.split_once('/').unwrap_or((text, "tensor"));
        let per = match (per, per.strip_prefix("group:")) {
            ("channel", _) => Per::Channel,
            ("tensor", _) => Per::Tensor,
            (_, Some(size)) => Per::Group(size.parse().ok().filter(|&s| s > 0).ok_or_else(fail)?),
            _ => return Err(fail()),
        };
        let width = |bits: &str| bits.parse::<u8>().ok().filter(|b| (2..=8).contains(b)).ok_or_else(fail);
        let number = match kind {
            "symmetric8" => Number::Integer { bits: 8, levels: Levels::Symmetric },
            "ternary" => Number::Integer { bits: 2, levels: Levels::Symmetric },
            "binary" => Number::Integer { bits: 1, levels: Levels::Binary },
            "fp16" => Number::Half(Half::Float16),
            "bf16" => Number::Half(Half::Bfloat16),
            _ => match (kind.strip_prefix("uint"), kind.strip_prefix("int")) {
                (Some(bits), _) => Number::Integer { bits: width(bits)?, levels: Levels::Unsigned },
                (_, Some(bits)) => Number::Integer { bits: width(bits)?, levels: Levels::Signed },
                _ => return Err(fail()),
            },
        };
        match (number, per) {
            (Number::Half(_), Per::Channel | Per::Group(_)) => Err(format!("`{text}`: {kind} has no scale; write {kind}")),
            _ => Ok(Self { number, per }),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            Number::Half(Half::Float16) => write!(f, "fp16")?,
            Number::Half(Half::Bfloat16) => write!(f, "bf16")?,
            Number::Integer { levels: Levels::Binary, .. } => write!(f, "binary")?,
            Number::Integer { levels: Levels::Symmetric, bits: 2 } => write!(f, "ternary")?,
            Number::Integer { levels: Levels::Symmetric, bits } => write!(f, "symmetric{bits}")?,
            Number::Integer { levels: Levels::Unsigned, bits } => write!(f, "uint{bits}")?,
            Number::Integer { levels: Levels::Signed, bits } => write!(f, "int{bits}")?,
        }
        match self.per {
            Per::Tensor => Ok(()),
            Per::Channel => write!(f, "/channel"),
            Per::Group(size) => write!(f, "/group:{size}"),
        }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a format such as int8/channel")
    }
}

impl FromStr for Choice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "default" => Ok(Self::Default),
            text => text.parse().map(Self::Format),
        }
    }
}

pub(crate) mod choice {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Choice, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Choice::Format(format) => format.serialize(serializer),
            Choice::None => serializer.serialize_str("none"),
            Choice::Default => serializer.serialize_str("default"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Choice, D::Error> {
        sinter_model::from_text::<Choice, D>(deserializer, "a format such as uint8, or none")
    }
}

pub(crate) fn int8_channel() -> Format {
    Format { number: Number::Integer { bits: 8, levels: Levels::Signed }, per: Per::Channel }
}

/// How activations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// Float.
    None,
    /// Quantized by the range of each batch.
    Dynamic,
    /// By ranges that come from calibration.
    Static(Format),
}

impl Activations {
    /// The format of what is calibrated.
    pub(crate) fn calibrated(self) -> Option<Format> {
        match self {
            Self::Static(format) => Some(format),
            _ => None,
        }
    }
}

impl Default for Activations {
    fn default() -> Self {
        let number = Number::Integer { bits: 8, levels: Levels::Unsigned };
        Self::Static(Format { number, per: Per::Tensor })
    }
}

impl FromStr for Activations {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "dynamic" => Ok(Self::Dynamic),
            text => text.parse().map(Self::Static),
        }
    }
}

impl std::fmt::Display for Activations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Dynamic => f.write_str("dynamic"),
            Self::Static(format) => format.fmt(f),
        }
    }
}

impl Serialize for Activations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Activations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a format such as uint8, or none, or dynamic")
    }
}

/// An override: the stage's own format, none at all, or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The stage's own.
    Default,
    /// None: float.
    None,
    /// Another.
    Format(Format),
}

impl schemars::JsonSchema for Format {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Format".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let what = "`int8` to `int2`, `uint8` to `uint2`, `symmetric8`, `ternary`, `binary`, `fp16` or `bf16`, and `/tensor`, `/channel` or `/group:N`";
        sinter_model::choices::text_schema(what, &["int8/channel", "int4/group:128", "fp16"])
    }
}

impl schemars::JsonSchema for Activations {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Activations".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let what = "`uint8` to `uint2`, `int8` to `int2`, `symmetric8`, `none` or `dynamic`";
        sinter_model::choices::text_schema(what, &["uint8", "none", "dynamic"])
    }
}

impl schemars::JsonSchema for Choice {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Choice".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        sinter_model::choices::text_schema("a format, or `none` for float", &["int8/channel", "none"])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_and_write() {
        for text in [
            "int8/channel",
            "uint8",
            "int4",
            "int2/channel",
            "ternary/channel",
            "binary",
            "int4/group:128",
            "fp16",
            "bf16",
            "uint4/group:32",
            "symmetric8",
        ] {
            assert_eq!(text.parse::<Format>().unwrap().to_string(), text);
        }
        for text in ["int9", "float8", "int8/row", "int", "8", "int4/group:0", "int4/group:", "fp16/channel"] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
    }
}
