//! A node's attributes, as ONNX names and types them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{OpError, OpResult, invalid};

/// Element types of values, by ONNX's names; those that libtorch can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ElementType {
    /// 32-bit floating point.
    Float,
    /// Unsigned, 8 bits.
    Uint8,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// True or false, in a byte.
    Bool,
    /// 16-bit floating point, IEEE 754.
    Float16,
    /// 64-bit floating point.
    Double,
    /// 16-bit floating point with the exponent of 32.
    Bfloat16,
}

impl ElementType {
    /// From the number in `TensorProto.DataType`; `None` for the types that Sinter does not hold.
    pub fn from_onnx(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::Float,
            2 => Self::Uint8,
            3 => Self::Int8,
            5 => Self::Int16,
            6 => Self::Int32,
            7 => Self::Int64,
            9 => Self::Bool,
            10 => Self::Float16,
            11 => Self::Double,
            16 => Self::Bfloat16,
            _ => return None,
        })
    }

    /// The number in `TensorProto.DataType`.
    pub fn to_onnx(self) -> i32 {
        match self {
            Self::Float => 1,
            Self::Uint8 => 2,
            Self::Int8 => 3,
            Self::Int16 => 5,
            Self::Int32 => 6,
            Self::Int64 => 7,
            Self::Bool => 9,
            Self::Float16 => 10,
            Self::Double => 11,
            Self::Bfloat16 => 16,
        }
    }

    /// libtorch's name for the type.
    pub fn kind(self) -> Kind {
        match self {
            Self::Float => Kind::Float,
            Self::Uint8 => Kind::Uint8,
            Self::Int8 => Kind::Int8,
            Self::Int16 => Kind::Int16,
            Self::Int32 => Kind::Int,
            Self::Int64 => Kind::Int64,
            Self::Bool => Kind::Bool,
            Self::Float16 => Kind::Half,
            Self::Double => Kind::Double,
            Self::Bfloat16 => Kind::BFloat16,
        }
    }

    /// From libtorch's name; `None` for complex and quantized kinds.
    pub fn from_kind(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Float => Self::Float,
            Kind::Uint8 => Self::Uint8,
            Kind::Int8 => Self::Int8,
            Kind::Int16 => Self::Int16,
            Kind::Int => Self::Int32,
            Kind::Int64 => Self::Int64,
            Kind::Bool => Self::Bool,
            Kind::Half => Self::Float16,
            Kind::Double => Self::Double,
            Kind::BFloat16 => Self::Bfloat16,
            _ => return None,
        })
    }

    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Uint8 | Self::Int8 | Self::Bool => 1,
            Self::Int16 | Self::Float16 | Self::Bfloat16 => 2,
            Self::Float | Self::Int32 => 4,
            Self::Int64 | Self::Double => 8,
        }
    }
}

/// One attribute's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Attribute {
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f32),
    /// A text.
    String(String),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Numbers.
    Floats(Vec<f32>),
    /// Texts.
    Strings(Vec<String>),
    /// Raw little-endian elements with their type and shape.
    Tensor {
        /// What its elements are.
        element: ElementType,
        /// Its shape.
        shape: Vec<i64>,
        /// Its elements, little-endian.
        data: Vec<u8>,
    },
}

/// The attributes of one node, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(pub BTreeMap<String, Attribute>);

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one attribute more.
    pub fn with(mut self, name: &str, value: Attribute) -> Self {
        self.0.insert(name.to_string(), value);
        self
    }

    /// The same with one integer attribute more.
    pub fn int(self, name: &str, value: i64) -> Self {
        self.with(name, Attribute::Int(value))
    }

    /// The same with one list of integers more.
    pub fn ints(self, name: &str, value: &[i64]) -> Self {
        self.with(name, Attribute::Ints(value.to_vec()))
    }

    /// The same with one float attribute more.
    pub fn float(self, name: &str, value: f32) -> Self {
        self.with(name, Attribute::Float(value))
    }

    /// An integer attribute, or its default. Errors when the attribute has another type.
    pub fn get_int(&self, name: &str, default: i64) -> OpResult<i64> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Attribute::Int(v)) => Ok(*v),
            Some(other) => Err(wrong(name, "an integer", other)),
        }
    }

    /// A flag: an integer attribute that is 0 or 1.
    pub fn get_flag(&self, name: &str, default: bool) -> OpResult<bool> {
        Ok(self.get_int(name, default as i64)? != 0)
    }

    /// An integer attribute, when present.
    pub fn opt_int(&self, name: &str) -> OpResult<Option<i64>> {
        if self.0.contains_key(name) { self.get_int(name, 0).map(Some) } else { Ok(None) }
    }

    /// A float attribute, or its default.
    pub fn get_float(&self, name: &str, default: f64) -> OpResult<f64> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Attribute::Float(v)) => Ok(*v as f64),
            Some(other) => Err(wrong(name, "a float", other)),
        }
    }

    /// A list of integers, when present.
    pub fn opt_ints(&self, name: &str) -> OpResult<Option<Vec<i64>>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(v)) => Ok(Some(v.clone())),
            Some(other) => Err(wrong(name, "a list of integers", other)),
        }
    }

    /// A string, or its default.
    pub fn get_str<'a>(&'a self, name: &str, default: &'a str) -> OpResult<&'a str> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Attribute::String(v)) => Ok(v),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    /// A list of strings, empty when absent.
    pub fn strings(&self, name: &str) -> OpResult<Vec<String>> {
        match self.0.get(name) {
            None => Ok(vec![]),
            Some(Attribute::Strings(v)) => Ok(v.clone()),
            Some(other) => Err(wrong(name, "a list of strings", other)),
        }
    }

    /// A tensor attribute, when present.
    pub fn opt_tensor(&self, name: &str) -> OpResult<Option<Tensor>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor { element, shape, data }) => tensor_of(name, *element, shape, data).map(Some),
            Some(other) => Err(wrong(name, "a tensor", other)),
        }
    }

    /// Errors when an attribute is present that this version does not know.
    pub fn reject(&self, names: &[&str]) -> OpResult<()> {
        match names.iter().find(|n| self.0.contains_key(**n)) {
            Some(name) => invalid!("attribute `{name}` is not supported"),
            None => Ok(()),
        }
    }
}

/// A tensor from raw elements. Errors when their number does not match the shape, which libtorch would not notice.
pub fn tensor_of(name: &str, element: ElementType, shape: &[i64], data: &[u8]) -> OpResult<Tensor> {
    let wanted = shape.iter().try_fold(element.bytes(), |a, &n| usize::try_from(n).ok().and_then(|n| a.checked_mul(n)));
    if wanted != Some(data.len()) {
        invalid!("`{name}` holds {} bytes, which do not fill its shape {shape:?}", data.len());
    }
    Ok(Tensor::f_from_data_size(data, shape, element.kind())?)
}

fn wrong(name: &str, wanted: &str, got: &Attribute) -> OpError {
    OpError::Invalid(format!("attribute `{name}` should be {wanted}, but is {got:?}"))
}
