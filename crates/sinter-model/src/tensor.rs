//! Small conversions between libtorch tensors and Rust vectors.

use std::mem::MaybeUninit;

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::attributes::ElementType;
use crate::encoding::Half;
use crate::error::{OpResult, invalid};

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

/// Shows the elements of a float32 tensor (any device) as a slice, row-major; copies only where they do not lie so.
pub fn with_f32s<T>(tensor: &Tensor, look: impl FnOnce(&[f32]) -> T) -> OpResult<T> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    if flat.numel() == 0 {
        return Ok(look(&[]));
    }
    // SAFETY: `flat` owns contiguous float32 elements on the CPU, outlives the slice, and nothing writes to it meanwhile.
    let values = unsafe { std::slice::from_raw_parts(flat.data_ptr() as *const f32, flat.numel()) };
    Ok(look(values))
}

/// The same in the order in which the elements lie, the first axis still the slowest: images whose channels lie last are not copied.
pub fn with_f32s_as_they_lie<T>(tensor: &Tensor, look: impl FnOnce(&[f32]) -> T) -> OpResult<T> {
    if tensor.dim() == 4 && !tensor.is_contiguous() {
        return with_f32s(&tensor.f_permute([0, 2, 3, 1])?, look);
    }
    with_f32s(tensor, look)
}

/// A uint8 tensor of this shape on the CPU whose elements `fill` writes in place, row-major, over zeros.
pub fn with_u8s(shape: &[i64], fill: impl FnOnce(&mut [u8])) -> OpResult<Tensor> {
    let tensor = Tensor::f_empty(shape, (Kind::Uint8, Device::Cpu))?;
    if tensor.numel() > 0 {
        // All threads touch the new pages: for a mask that costs more than all the rest.
        // SAFETY: the tensor is new, so nobody else reads or writes its contiguous bytes; it outlives the slice.
        let bytes = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut MaybeUninit<u8>, tensor.numel()) };
        bytes.par_chunks_mut(1 << 20).for_each(|part| part.fill(MaybeUninit::new(0)));
        // SAFETY: every byte has just been written.
        fill(unsafe { &mut *(bytes as *mut [MaybeUninit<u8>] as *mut [u8]) });
    }
    Ok(tensor)
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

/// The elements as little-endian bytes, row-major; bool as one byte each. Errors on kinds that ONNX does not know.
pub fn to_bytes(tensor: &Tensor) -> OpResult<Vec<u8>> {
    let flat = tensor.f_detach()?.f_contiguous()?;
    let flat = if flat.kind() == Kind::Bool { flat.f_to_kind(Kind::Uint8)? } else { flat };
    let Some(element) = ElementType::from_kind(flat.kind()) else { invalid!("elements of kind {:?} have no bytes", flat.kind()) };
    let mut bytes = vec![0; flat.numel() * element.bytes()];
    if !bytes.is_empty() {
        flat.f_copy_data_u8(&mut bytes, flat.numel())?;
    }
    Ok(bytes)
}

/// Each element to the nearest of sixteen bits, clamped to its range; the gradient passes straight through.
pub fn round_half(tensor: &Tensor, half: Half) -> OpResult<Tensor> {
    let most = half.most();
    let rounded = tensor.f_detach()?.f_clamp(-most, most)?.f_to_kind(half.element().kind())?.f_to_kind(Kind::Float)?;
    // The difference is exactly zero, so the sum is the rounded value itself.
    if tensor.requires_grad() { Ok(rounded.f_add(&tensor.f_sub(&tensor.f_detach()?)?)?) } else { Ok(rounded) }
}

/// A one-dimensional integer tensor, as ONNX passes shapes and axes.
pub fn ints_of(values: &[i64]) -> Tensor {
    Tensor::from_slice(values)
}

/// ONNX's word for a libtorch element kind, for messages.
pub fn kind_name(kind: Kind) -> String {
    ElementType::from_kind(kind).map_or_else(|| format!("{kind:?}"), |e| format!("{e:?}").to_lowercase())
}
