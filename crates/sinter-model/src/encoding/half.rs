//! Weights in sixteen bits.

use serde::{Deserialize, Serialize};

use crate::attributes::ElementType;

/// Floating point in sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Half {
    /// IEEE 754, with eleven bits of precision.
    Float16,
    /// The exponent of float32, with eight bits of precision.
    Bfloat16,
}

impl Half {
    /// The element type that holds it.
    pub fn element(self) -> ElementType {
        match self {
            Self::Float16 => ElementType::Float16,
            Self::Bfloat16 => ElementType::Bfloat16,
        }
    }

    /// The largest finite value.
    pub fn most(self) -> f64 {
        match self {
            Self::Float16 => 65504.0,
            Self::Bfloat16 => 3.3895313892515355e38,
        }
    }

    /// In descriptions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
        }
    }
}
