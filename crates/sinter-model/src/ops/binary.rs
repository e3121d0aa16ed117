//! Arithmetic of two or more tensors with broadcasting.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::own;
use crate::attributes::Attributes;
use crate::axes::AxisLinks;
use crate::behaviour::{End, IntegerKernel, Matters, Quantization};
use crate::error::{OpResult, invalid};
use crate::op::{Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &["Add", "BitShift", "Div", "Max", "Mean", "Min", "Mod", "Mul", "Pow", "Sub", "Sum", "Where"];

#[derive(Debug)]
struct Arithmetic {
    kind: &'static str,
    /// `Mod` with the sign of the dividend, `BitShift` to the left.
    variant: bool,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let variant = match kind {
        "Mod" => attributes.get_flag("fmod", false)?,
        "BitShift" => attributes.get_str("direction", "")? == "LEFT",
        _ => false,
    };
    Ok(Some(Arc::new(Arithmetic { kind, variant })))
}

fn fold(inputs: &Inputs, f: impl Fn(&Tensor, &Tensor) -> Result<Tensor, tch::TchError>) -> OpResult<Tensor> {
    let mut result = inputs.get(0)?.shallow_clone();
    for other in inputs.present().skip(1) {
        result = f(&result, other)?;
    }
    Ok(result)
}

impl Operator for Arithmetic {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let a = inputs.get(0)?;
        let result = match self.kind {
            "Add" => a.f_add(inputs.get(1)?)?,
            "Sub" => a.f_sub(inputs.get(1)?)?,
            "Mul" => a.f_mul(inputs.get(1)?)?,
            "Div" if a.is_floating_point() => a.f_div(inputs.get(1)?)?,
            // Integer division cuts toward zero, as in C.
            "Div" => a.f_div_tensor_mode(inputs.get(1)?, "trunc")?,
            "Pow" => a.f_pow(inputs.get(1)?)?.f_to_kind(a.kind())?,
            "Mod" if self.variant => a.f_fmod_tensor(inputs.get(1)?)?,
            "Mod" => a.f_remainder_tensor(inputs.get(1)?)?,
            "BitShift" if self.variant => a.f_bitwise_left_shift(inputs.get(1)?)?,
            "BitShift" => a.f_bitwise_right_shift(inputs.get(1)?)?,
            "Max" => fold(inputs, |x, y| x.f_maximum(y))?,
            "Min" => fold(inputs, |x, y| x.f_minimum(y))?,
            "Sum" => fold(inputs, |x, y| x.f_add(y))?,
            "Mean" => fold(inputs, |x, y| x.f_add(y))?.f_div_scalar(inputs.present().count() as f64)?,
            "Where" => inputs.get(1)?.f_where_self(&a.f_to_kind(Kind::Bool)?, inputs.get(2)?)?,
            other => invalid!("`{other}` is not arithmetic"),
        };
        Ok(vec![result])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        Ok(Some(inputs.broadcast()))
    }

    fn axes(&self, links: &mut AxisLinks) {
        for i in 0..links.shapes.inputs.len() {
            links.broadcast(i);
        }
    }

    fn quantization(&self) -> Quantization {
        match self.kind {
            "Add" | "Mul" => Quantization::INTEGERS,
            "Sub" => Quantization::TFLITE,
            _ => Quantization::FLOAT,
        }
    }

    fn integer_kernel(&self) -> Option<IntegerKernel> {
        (self.kind == "Add").then_some(IntegerKernel::Sum)
    }

    fn matters(&self, input: usize) -> Matters {
        // Of two: what lies beyond the other never shows.
        match (self.kind, input) {
            ("Min", 0 | 1) => Matters::Between(End::Open, End::Input(1 - input)),
            ("Max", 0 | 1) => Matters::Between(End::Input(1 - input), End::Open),
            _ => Matters::All,
        }
    }

    fn gives_reals(&self) -> bool {
        self.kind != "Where"
    }
}
