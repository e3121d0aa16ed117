//! The header of a packed file.

use serde::{Deserialize, Serialize};
use sinter_model::{ElementType, Graph, GridShape, Levels, NmPattern, Role};

pub(super) const MAGIC: &[u8; 6] = b"SINTER";
pub(super) const VERSION: u8 = 1;

/// Everything but the tensors' values.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub name: String,
    pub graph: Graph,
    pub tensors: Vec<TensorEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<(String, GridEntry)>,
}

/// One tensor, in the order of the parts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TensorEntry {
    #[serde(rename = "n")]
    pub name: String,
    #[serde(rename = "r")]
    pub role: Role,
    #[serde(rename = "s")]
    pub shape: Vec<i64>,
    #[serde(rename = "c")]
    pub coding: Coding,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<GridEntry>,
    /// The zeros are a mask.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskEntry>,
    /// The table is a codebook.
    #[serde(rename = "k", default, skip_serializing_if = "std::ops::Not::not")]
    pub codebook: bool,
}

/// How a tensor's values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Coding {
    /// Little-endian elements in the raw part.
    #[serde(rename = "raw")]
    Raw(ElementType),
    /// A table of so many values in the raw part (float32), and coded indices.
    #[serde(rename = "t")]
    Table(usize),
    /// A table of so many grid integers among the coded symbols, and coded indices.
    #[serde(rename = "i")]
    IntegerTable(usize),
    /// Coded grid integers.
    #[serde(rename = "v")]
    Integers,
    /// Coded mask bits, and the non-zero elements as float32 in the raw part.
    #[serde(rename = "s")]
    Sparse,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct MaskEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nm: Option<NmPattern>,
}

/// A grid without its scales, which lie in the raw part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GridEntry {
    #[serde(rename = "b")]
    pub bits: u8,
    #[serde(rename = "l")]
    pub levels: u8,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    #[serde(rename = "n")]
    pub scales: usize,
    #[serde(rename = "z", default, skip_serializing_if = "Vec::is_empty")]
    pub zero_points: Vec<i64>,
}

impl GridEntry {
    pub fn shape(&self) -> GridShape {
        self.axis.map_or(GridShape::Tensor, GridShape::Channel)
    }

    pub fn levels(&self) -> Option<Levels> {
        [Levels::Unsigned, Levels::Signed, Levels::Symmetric].get(self.levels as usize).copied()
    }
}

pub(super) fn level_code(levels: Levels) -> u8 {
    match levels {
        Levels::Unsigned => 0,
        Levels::Signed => 1,
        Levels::Symmetric => 2,
    }
}

pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
