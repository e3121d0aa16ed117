//! What files hold of a weight: integers with their scales, or floats in the fewest bytes that hold them exactly.

use half::{bf16, f16};
use sinter_model::{Layer, Model, QuantParams, Role, Weight, to_f32s, to_i64s};

use crate::config::Config;
use crate::decoder;
use crate::error::HubError;

/// A weight as a file holds it, row by row as the folder has it, `[out, in]`.
pub(crate) enum Stored {
    /// Integers of a quantizer.
    Integers { integers: Vec<i64>, params: QuantParams },
    /// Numbers.
    Floats(Vec<f32>),
}

impl Stored {
    /// Of a weight: integers where it lies on a quantizer.
    pub fn of(name: &str, weight: &Weight) -> Result<Self, HubError> {
        let effective = weight.effective()?.f_detach()?;
        let Some(quantizer) = weight.quantizer() else { return Ok(Self::Floats(to_f32s(&effective)?)) };
        let integers = quantizer.quantize(&effective)?;
        if !quantizer.dequantize(&integers)?.f_equal(&effective)? {
            return Err(HubError::tensor(name, "its values are not those of its integers: please report this"));
        }
        Ok(Self::Integers { integers: to_i64s(&integers)?, params: quantizer.params()? })
    }
}

/// How a float is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FloatType {
    Bf16,
    F16,
    F32,
}

impl FloatType {
    /// The first of these in which every value of every tensor is exact.
    pub fn holding<'a>(tensors: impl Iterator<Item = &'a [f32]> + Clone) -> Self {
        let exact = |t: &Self| tensors.clone().all(|values| values.iter().all(|&v| t.holds(v)));
        [Self::Bf16, Self::F16].into_iter().find(exact).unwrap_or(Self::F32)
    }

    /// Whether a value is exact in it.
    pub fn holds(self, value: f32) -> bool {
        match self {
            Self::Bf16 => bf16::from_f32(value).to_f32() == value,
            Self::F16 => f16::from_f32(value).to_f32() == value,
            Self::F32 => true,
        }
    }

    /// Values as little-endian bytes.
    pub fn bytes(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// Values of little-endian bytes.
    pub fn values(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Bf16 => bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Self::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        }
    }
}

/// Whether a model still has the tensors that config.json of its folder asks for: what was pruned away there is no word for in it.
pub(crate) fn complete(model: &Model, config: &Config) -> Result<(), HubError> {
    let wanted = decoder::tensors(config);
    for (name, shape) in &wanted {
        let found = model.weights.get(name).map(Weight::size);
        if found.as_ref() != Some(shape) {
            let found = found.map_or("gone".to_string(), |f| format!("of shape {f:?}"));
            let reason = format!(
                "it is {found}, and config.json says {shape:?}: what loses blocks or channels is written as `onnx` or `packed`"
            );
            return Err(HubError::tensor(name, reason));
        }
    }
    let other = model.weights.iter().find(|(name, w)| w.role == Role::Parameter && !wanted.contains_key(*name));
    other.map_or(Ok(()), |(name, _)| Err(HubError::tensor(name, "a stage added it, and the folder's files have no place for it")))
}

/// The layers whose weights lie on quantizers, tables among them, and the quantizers' parameters.
pub(crate) fn quantized(model: &Model) -> Result<Vec<(Layer, QuantParams)>, HubError> {
    let mut found = Vec::new();
    for layer in model.layers_and_tables() {
        if let Some(quantizer) = model.weights.get(&layer.weight).and_then(Weight::quantizer) {
            found.push((layer, quantizer.params()?));
        }
    }
    Ok(found)
}

/// Whether what was read back is what the model computes with, value by value.
pub(crate) fn same(name: &str, read: &[f32], weight: &Weight) -> Result<(), HubError> {
    let wanted = to_f32s(&weight.effective()?)?;
    // Minus zero is zero.
    match wanted.iter().zip(read).position(|(a, b)| a != b) {
        None if wanted.len() == read.len() => Ok(()),
        at => {
            let at = at.unwrap_or(wanted.len().min(read.len()));
            let reason = format!("the file does not hold what the model computes with (element {at}): please report this");
            Err(HubError::tensor(name, reason))
        }
    }
}
