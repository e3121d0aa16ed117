//! Tensors of a program.

use sinter_model::QuantParams;

/// What a tensor's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floating point.
    Float32,
    /// 16-bit floating point.
    Float16,
    /// 8-bit signed integers.
    Int8,
    /// 32-bit signed integers.
    Int32,
}

impl Element {
    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Float32 | Self::Int32 => 4,
            Self::Float16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// A tensor of a program, for a batch of one.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// May be empty.
    pub name: String,
    /// Its lengths.
    pub shape: Vec<i64>,
    /// What its elements are.
    pub element: Element,
    /// In signed integers.
    pub quantization: Option<QuantParams>,
    /// Little-endian elements of a constant.
    pub data: Option<Vec<u8>>,
}

impl TensorInfo {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product::<i64>().max(0) as usize
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.element.bytes()
    }

    /// The elements of a constant of 32-bit integers; `None` for anything else.
    pub fn int32s(&self) -> Option<Vec<i32>> {
        let data = self.data.as_ref().filter(|_| self.element == Element::Int32)?;
        Some(data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
