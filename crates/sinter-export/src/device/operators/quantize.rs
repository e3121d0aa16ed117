//! To integers, from one scale to another, and back to floats.

use std::sync::Arc;

use super::table::TableKernel;
use crate::device::error::LowerError;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::tensor::Element;

/// What brings a value to integers, or to other ones.
pub(super) fn quantize() -> Arc<dyn DeviceOperator> {
    Arc::new(Quantize)
}

/// What brings a value to floats.
pub(super) fn dequantize() -> Arc<dyn DeviceOperator> {
    Arc::new(Dequantize)
}

#[derive(Debug)]
struct Quantize;

impl DeviceOperator for Quantize {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 114, version: io.version(), name: "QUANTIZE", method: "AddQuantize" }
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        Ok(Box::new(TableKernel::rescaled(io, -128, 127)?))
    }
}

#[derive(Debug)]
struct Dequantize;

impl DeviceOperator for Dequantize {
    fn builtin(&self, io: &Io) -> Builtin {
        let input = io.input(0);
        let version = match &input.quantization {
            Some(q) if q.scales().len() > 1 => 5,
            _ if input.element == Element::Float16 => 3,
            _ => 2,
        };
        Builtin { code: 6, version, name: "DEQUANTIZE", method: "AddDequantize" }
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        io.result()?;
        Err(io.refuse("gives floats"))
    }
}
