//! `TensorProto` to libtorch and back.

use std::path::Path;

use sinter_model::{ElementType, elements, to_bytes, to_i64s};
use tch::Tensor;

use crate::error::OnnxError;
use crate::proto::{StringStringEntry, TensorProto};

/// Element types that a file may hold and that are widened on reading, because libtorch does not compute in them.
fn widened(code: i32) -> Option<(ElementType, usize)> {
    match code {
        4 => Some((ElementType::Int32, 2)),  // uint16
        12 => Some((ElementType::Int64, 4)), // uint32
        13 => Some((ElementType::Int64, 8)), // uint64
        _ => None,
    }
}

/// TensorProto.DataType of unsigned and signed integers of four bits: two to a byte, the first in the low half.
const UINT4: i32 = 21;
const INT4: i32 = 22;

/// The integers of four bits in these bytes, widened to eight.
fn from_nibbles(bytes: &[u8], signed: bool, shape: &[i64]) -> Result<Tensor, tch::TchError> {
    let count = shape.iter().product::<i64>() as usize;
    let each = bytes.iter().flat_map(|b| [b & 15, b >> 4]).take(count);
    let flat = match signed {
        true => Tensor::f_from_slice(&each.map(|n| ((n << 4) as i8) >> 4).collect::<Vec<i8>>())?,
        false => Tensor::f_from_slice(&each.collect::<Vec<u8>>())?,
    };
    flat.f_reshape(shape)
}

/// Writes a tensor of int8 or uint8 in four bits an element. Errors on integers that four bits do not hold.
pub(crate) fn nibbles_to_proto(name: &str, tensor: &Tensor) -> Result<TensorProto, OnnxError> {
    let fail = |reason: String| OnnxError::Tensor { name: name.to_string(), reason };
    let (code, range) = match tensor.kind() {
        tch::Kind::Int8 => (INT4, -8..=7),
        tch::Kind::Uint8 => (UINT4, 0..=15),
        other => return Err(fail(format!("{other:?} can't be stored in four bits"))),
    };
    let values = to_i64s(tensor).map_err(|e| fail(e.to_string()))?;
    if let Some(wide) = values.iter().find(|v| !range.contains(*v)) {
        return Err(fail(format!("{wide} does not fit four bits")));
    }
    let pair = |two: &[i64]| (two[0] & 15) as u8 | (two.get(1).map_or(0, |v| v & 15) << 4) as u8;
    let raw_data = Some(values.chunks(2).map(pair).collect());
    Ok(TensorProto { dims: tensor.size(), data_type: code, name: name.to_string(), raw_data, ..TensorProto::default() })
}

/// Reads a tensor; external data is looked for in `folder`. Errors on strings, on lengths that do not match, and on paths
/// that leave the folder.
pub fn tensor_from_proto(proto: &TensorProto, folder: Option<&Path>) -> Result<Tensor, OnnxError> {
    let fail = |reason: String| OnnxError::Tensor { name: proto.name.clone(), reason };
    let wide = widened(proto.data_type);
    let four_bits = matches!(proto.data_type, UINT4 | INT4);
    let signed = proto.data_type == INT4;
    let element = match (ElementType::from_onnx(proto.data_type), wide) {
        _ if four_bits => {
            if signed {
                ElementType::Int8
            } else {
                ElementType::Uint8
            }
        }
        (Some(element), _) | (None, Some((element, _))) => element,
        _ => return Err(fail(format!("element type {} is not supported", proto.data_type))),
    };
    let stored = wide.map_or(element.bytes(), |(_, bytes)| bytes);
    // In memory an element takes what libtorch takes for it.
    let count = elements(&proto.dims, element.bytes() as u64).map_err(|e| fail(e.to_string()))?;
    let size = if four_bits { Some(count.div_ceil(2)) } else { count.checked_mul(stored) };
    let Some(size) = size else { return Err(fail(format!("shape {:?} is not possible", proto.dims))) };
    let exact = |have: usize| match have == count {
        true => Ok(()),
        false => Err(fail(format!("it holds {have} elements, its shape {:?} wants {count}", proto.dims))),
    };
    let raw = if proto.data_location == 1 {
        Some(external(proto, folder, size).map_err(fail)?)
    } else {
        proto.raw_data.clone().filter(|raw| !raw.is_empty() || count == 0)
    };
    let tch = |result: Result<Tensor, tch::TchError>| result.map_err(|e| fail(e.to_string()));
    if let Some(raw) = raw {
        if raw.len() != size {
            return Err(fail(format!("it holds {} bytes, its shape {:?} wants {size}", raw.len(), proto.dims)));
        }
        if four_bits {
            return tch(from_nibbles(&raw, signed, &proto.dims));
        }
        return match (wide, stored) {
            (None, _) => tch(Tensor::f_from_data_size(&raw, &proto.dims, element.kind())),
            (Some(_), width) => {
                let values: Vec<i64> =
                    raw.chunks_exact(width).map(|c| c.iter().rev().fold(0u64, |a, &b| (a << 8) | b as u64) as i64).collect();
                tch(Tensor::f_from_slice(&values).and_then(|t| t.f_to_kind(element.kind())?.f_reshape(&proto.dims[..])))
            }
        };
    }
    if four_bits {
        let bytes: Vec<u8> = proto.int32_data.iter().map(|&v| v as u8).collect();
        return match bytes.len() == size {
            true => tch(from_nibbles(&bytes, signed, &proto.dims)),
            false => Err(fail(format!("it holds {} bytes, its shape {:?} wants {size}", bytes.len(), proto.dims))),
        };
    }
    let flat = match element {
        ElementType::Float => {
            exact(proto.float_data.len())?;
            Tensor::f_from_slice(&proto.float_data)
        }
        ElementType::Double => {
            exact(proto.double_data.len())?;
            Tensor::f_from_slice(&proto.double_data)
        }
        ElementType::Int64 => {
            exact(proto.int64_data.len())?;
            Tensor::f_from_slice(&proto.int64_data)
        }
        ElementType::Float16 | ElementType::Bfloat16 => {
            exact(proto.int32_data.len())?;
            let bytes: Vec<u8> = proto.int32_data.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect();
            Tensor::f_from_data_size(&bytes, &[count as i64], element.kind())
        }
        _ => {
            exact(proto.int32_data.len())?;
            Tensor::f_from_slice(&proto.int32_data).and_then(|t| t.f_to_kind(element.kind()))
        }
    };
    tch(flat.and_then(|t| t.f_reshape(&proto.dims[..])))
}

/// Reads the bytes that `external_data` points to.
fn external(proto: &TensorProto, folder: Option<&Path>, size: usize) -> Result<Vec<u8>, String> {
    use std::io::{Read, Seek, SeekFrom};
    let get = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let location = get("location").ok_or("external data without a location")?;
    let folder = folder.ok_or("external data, but the model was not read from a file")?;
    let relative = Path::new(location);
    if relative.is_absolute() || relative.components().any(|c| matches!(c, std::path::Component::ParentDir)) {
        return Err(format!("external data at `{location}` lies outside the model's folder"));
    }
    let number = |key: &str| match get(key) {
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("external data: {key} `{text}` is not a number")),
        None => Ok(None),
    };
    let offset = number("offset")?.unwrap_or(0);
    if let Some(length) = number("length")?.filter(|&l| l != size as u64) {
        return Err(format!("external data of {length} bytes, its shape wants {size}"));
    }
    let path = folder.join(relative);
    // A link within the folder may lead out of it.
    let whole = |path: &Path| path.canonicalize().map_err(|e| format!("external data {}: {e}", path.display()));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (real, inside) = (whole(&path)?, whole(folder)?);
    if !real.starts_with(&inside) {
        return Err(format!("external data at `{location}` leads outside the model's folder, to {}", real.display()));
    }
    if !real.is_file() {
        return Err(format!("external data at `{location}` is no file"));
    }
    let say = |e: std::io::Error| format!("external data {}: {e}", path.display());
    let mut file = std::fs::File::open(&path).map_err(say)?;
    let have = file.metadata().map_err(say)?.len();
    if offset.checked_add(size as u64).is_none_or(|end| end > have) {
        return Err(format!("external data {} has {have} bytes, {size} from {offset} on are wanted", path.display()));
    }
    file.seek(SeekFrom::Start(offset)).map_err(say)?;
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).map_err(say)?;
    Ok(bytes)
}

/// The raw little-endian bytes of a tensor, with its element type.
pub(crate) fn raw_bytes(tensor: &Tensor) -> Result<(ElementType, Vec<u8>), String> {
    let element = ElementType::from_kind(tensor.kind()).ok_or_else(|| format!("{:?} has no ONNX type", tensor.kind()))?;
    let bytes = to_bytes(tensor).map_err(|e| e.to_string())?;
    Ok((element, bytes))
}

/// Writes a tensor with its data inside.
pub fn tensor_to_proto(name: &str, tensor: &Tensor) -> Result<TensorProto, OnnxError> {
    let (element, bytes) = raw_bytes(tensor).map_err(|reason| OnnxError::Tensor { name: name.to_string(), reason })?;
    Ok(TensorProto {
        dims: tensor.size(),
        data_type: element.to_onnx(),
        name: name.to_string(),
        raw_data: Some(bytes),
        ..TensorProto::default()
    })
}

/// Moves a tensor's data to the end of `file`, and leaves a pointer to `location`.
pub(crate) fn make_external(proto: &mut TensorProto, location: &str, file: &mut Vec<u8>) {
    let Some(raw) = proto.raw_data.take() else { return };
    // Runtimes map the file: start on a page.
    file.resize(file.len().next_multiple_of(4096), 0);
    let entry = |key: &str, value: String| StringStringEntry { key: key.into(), value };
    proto.external_data =
        vec![entry("location", location.into()), entry("offset", file.len().to_string()), entry("length", raw.len().to_string())];
    proto.data_location = 1;
    file.extend(raw);
}
