//! Quantize and dequantize as nodes of the graph.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{own, wrap_axis};
use crate::attributes::{Attributes, ElementType};
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::Boundary;
use crate::error::{OpResult, invalid};
use crate::op::{Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &["DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"];

#[derive(Debug)]
struct Linear {
    kind: &'static str,
    axis: i64,
    block: i64,
    output: Option<ElementType>,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let output = match attributes.get_int("output_dtype", 0)? {
        0 => None,
        code => match ElementType::from_onnx(code as i32) {
            Some(element) => Some(element),
            None => invalid!("element type {code} is not supported"),
        },
    };
    Ok(Some(Arc::new(Linear { kind, axis: attributes.get_int("axis", 1)?, block: attributes.get_int("block_size", 0)?, output })))
}

impl Linear {
    /// Scale or zero point shaped so that it broadcasts over `x`.
    fn spread(&self, values: &Tensor, x: &Tensor) -> OpResult<Tensor> {
        if values.numel() == 1 && self.block == 0 {
            return Ok(values.f_reshape([0i64; 0])?);
        }
        let axis = wrap_axis(self.axis, x.dim())?;
        if self.block > 0 {
            let wide = values.f_repeat_interleave_self_int(self.block, axis, None)?;
            return Ok(wide.f_narrow(axis, 0, x.size()[axis as usize])?);
        }
        let mut shape = vec![1i64; x.dim()];
        shape[axis as usize] = values.numel() as i64;
        Ok(values.f_reshape(shape)?)
    }
}

fn range(kind: Kind) -> OpResult<(f64, f64)> {
    Ok(match kind {
        Kind::Int8 => (-128.0, 127.0),
        Kind::Uint8 => (0.0, 255.0),
        Kind::Int16 => (-32768.0, 32767.0),
        Kind::Int => (i32::MIN as f64, i32::MAX as f64),
        other => invalid!("{} is not a type to quantize to", crate::kind_name(other)),
    })
}

impl Operator for Linear {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        if self.kind == "DynamicQuantizeLinear" {
            let low = x.f_min()?.f_clamp_max(0.0)?;
            let high = x.f_max()?.f_clamp_min(0.0)?;
            let scale = high.f_sub(&low)?.f_div_scalar(255.0)?;
            let zero = low.f_neg()?.f_div(&scale)?.f_round()?.f_clamp(0.0, 255.0)?;
            let y = x.f_div(&scale)?.f_round()?.f_add(&zero)?.f_clamp(0.0, 255.0)?;
            return Ok(vec![y.f_to_kind(Kind::Uint8)?, scale, zero.f_to_kind(Kind::Uint8)?]);
        }
        let scale = self.spread(inputs.get(1)?, x)?;
        let zero = inputs.opt(2).map(|z| self.spread(z, x)).transpose()?;
        if self.kind == "DequantizeLinear" {
            let wide = match (x.kind(), &zero) {
                (_, Some(z)) => x.f_to_kind(Kind::Int64)?.f_sub(&z.f_to_kind(Kind::Int64)?)?,
                _ => x.f_to_kind(Kind::Int64)?,
            };
            return Ok(vec![wide.f_to_kind(scale.kind())?.f_mul(&scale)?]);
        }
        let kind = match (inputs.opt(2), self.output) {
            (Some(z), _) => z.kind(),
            (None, Some(output)) => output.kind(),
            _ => Kind::Uint8,
        };
        let (low, high) = range(kind)?;
        let mut y = x.f_to_kind(scale.kind())?.f_div(&scale)?.f_round()?;
        if let Some(z) = zero {
            y = y.f_add(&z.f_to_kind(scale.kind())?)?;
        }
        Ok(vec![y.f_clamp(low, high)?.f_to_kind(kind)?])
    }

    fn axes(&self, links: &mut AxisLinks) {
        if self.kind == "DynamicQuantizeLinear" || self.block > 0 {
            return links.fix_all();
        }
        links.same_shape(0, 0);
        let Ok(axis) = wrap_axis(self.axis, links.shape(Slot::In(0)).len()) else { return };
        for i in [1, 2] {
            if links.shape(Slot::In(i)).first().is_some_and(|&n| n > 1) {
                links.same((Slot::In(i), 0), (Slot::Out(0), axis as usize));
            }
        }
    }

    fn boundary(&self) -> Option<Boundary> {
        Some(match self.kind {
            "QuantizeLinear" => Boundary::Quantize,
            "DynamicQuantizeLinear" => Boundary::DynamicQuantize,
            _ => Boundary::Dequantize,
        })
    }

    fn gives_reals(&self) -> bool {
        self.kind == "DequantizeLinear"
    }
}
