//! The header of a packed file, and how numbers of bytes are written.

use serde::{Deserialize, Serialize};
use sinter_model::{ElementType, Granularity, Graph, Levels, NmPattern, Role};

use super::symbols::Layout;

pub(super) const MAGIC: &[u8; 6] = b"SINTER";
pub(super) const VERSION: u8 = 2;

/// Everything but the tensors' values.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub name: String,
    pub graph: Graph,
    pub tensors: Vec<TensorEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<(String, QuantizerEntry)>,
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
    pub quantizer: Option<QuantizerEntry>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskEntry>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub codebook: Option<CodebookEntry>,
    /// Values count in sixteen bits: float16,
    #[serde(rename = "h", default, skip_serializing_if = "std::ops::Not::not")]
    pub half: bool,
    /// or bfloat16.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub brain: bool,
}

/// How a tensor's values are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Coding {
    /// Little-endian elements in the raw part.
    #[serde(rename = "raw")]
    Raw(ElementType),
    /// A coded list of floats.
    #[serde(rename = "f")]
    Floats,
    /// Coded flags of the non-zero elements, and those as float32 in the raw part.
    #[serde(rename = "s")]
    Sparse(Symbols),
    /// A coded table of floats (the centroids), and coded indices into it.
    #[serde(rename = "t")]
    Table(Symbols),
    /// A coded table of quantizer integers, and coded indices into it.
    #[serde(rename = "i")]
    IntegerTable(Symbols),
    /// Coded quantizer integers.
    #[serde(rename = "v")]
    Integers,
}

/// The values that indices have, and how they are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Symbols {
    #[serde(rename = "v")]
    pub values: usize,
    #[serde(rename = "z", default, skip_serializing_if = "std::ops::Not::not")]
    pub zeros: bool,
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    pub stride: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Symbols {
    /// The layout of `count` indices in rows of `columns`.
    pub fn layout(self, columns: usize) -> Layout {
        Layout { values: self.values, zeros: self.zeros, columns, stride: self.stride }
    }
}

/// A mask: what is zero. Over vector centroids and where a kept weight may be zero, it is stored before the indices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct MaskEntry {
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<NmPattern>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Symbols>,
}

/// What the indices of a codebook mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CodebookEntry {
    /// Weights to a centroid.
    #[serde(rename = "d", default = "one", skip_serializing_if = "is_one")]
    pub dim: usize,
    /// Each index of this axis has a table of its own.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    /// The table's name, where several tensors share it; the first of them brings it.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

/// A quantizer without its scales.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct QuantizerEntry {
    #[serde(rename = "b")]
    pub bits: u8,
    #[serde(rename = "l")]
    pub levels: u8,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    /// Elements to a scale along the axis.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    #[serde(rename = "n")]
    pub scales: usize,
    #[serde(rename = "z", default, skip_serializing_if = "Vec::is_empty")]
    pub zero_points: Vec<i64>,
    /// Scales that are not stored: those of this activation times those of this weight.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub product: Option<(String, String)>,
}

impl QuantizerEntry {
    pub fn granularity(&self) -> Granularity {
        match (self.axis, self.group) {
            (None, _) => Granularity::Tensor,
            (Some(axis), None) => Granularity::Channel(axis),
            (Some(axis), Some(size)) => Granularity::Group { axis, size },
        }
    }

    pub fn levels(&self) -> Option<Levels> {
        [Levels::Unsigned, Levels::Signed, Levels::Symmetric, Levels::Binary].get(self.levels as usize).copied()
    }
}

pub(super) fn level_code(levels: Levels) -> u8 {
    match levels {
        Levels::Unsigned => 0,
        Levels::Signed => 1,
        Levels::Symmetric => 2,
        Levels::Binary => 3,
    }
}

/// Elements of a row: all but the first axis.
pub(super) fn columns(shape: &[i64]) -> usize {
    shape.iter().skip(1).map(|&n| n.max(1) as usize).product()
}

pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
pub(super) fn write_length(out: &mut Vec<u8>, mut n: u64) {
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The inverse of [`write_length`]; what was read is cut off.
pub(super) fn read_length(from: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        n |= (byte as u64 & 127) << shift;
        if byte < 128 {
            return Some(n);
        }
    }
    None
}
