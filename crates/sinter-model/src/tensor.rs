//! Small conversions between libtorch tensors and Rust vectors.

use tch::{Kind, Tensor};

use crate::error::OpResult;

/// The elements as `f32`, row-major.
pub fn to_f32s(tensor: &Tensor) -> OpResult<Vec<f32>> {
    let flat = tensor.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut out = vec![0f32; flat.numel()];
    if !out.is_empty() {
        let len = out.len();
        flat.f_copy_data(&mut out, len)?;
    }
    Ok(out)
}

/// The elements as `i64`, row-major.
pub fn to_i64s(tensor: &Tensor) -> OpResult<Vec<i64>> {
    let flat = tensor.f_detach()?.f_to_kind(Kind::Int64)?.f_contiguous()?;
    let mut out = vec![0i64; flat.numel()];
    if !out.is_empty() {
        let len = out.len();
        flat.f_copy_data(&mut out, len)?;
    }
    Ok(out)
}

/// A one-dimensional integer tensor, as ONNX passes shapes and axes.
pub fn ints_of(values: &[i64]) -> Tensor {
    Tensor::from_slice(values)
}

/// ONNX's word for a libtorch element kind, for messages.
pub fn kind_name(kind: Kind) -> String {
    crate::ElementType::from_kind(kind).map_or_else(|| format!("{kind:?}"), |e| format!("{e:?}").to_lowercase())
}
