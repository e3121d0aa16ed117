//! Comparisons, and logic on booleans and bits.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::own;
use crate::attributes::Attributes;
use crate::axes::AxisLinks;
use crate::error::{OpResult, invalid};
use crate::op::{Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &[
    "And",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Not",
    "Or",
    "Xor",
];

#[derive(Debug)]
struct Logic {
    kind: &'static str,
    /// `IsInf`: whether minus and plus infinity count.
    detect: (bool, bool),
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let detect = (attributes.get_flag("detect_negative", true)?, attributes.get_flag("detect_positive", true)?);
    Ok(Some(Arc::new(Logic { kind, detect })))
}

impl Operator for Logic {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let a = inputs.get(0)?;
        let result = match self.kind {
            "Not" => a.f_logical_not()?,
            "BitwiseNot" => a.f_bitwise_not()?,
            "IsNaN" => a.f_isnan()?,
            "IsInf" => {
                let never = a.f_zeros_like()?.f_to_kind(Kind::Bool)?;
                let low = if self.detect.0 { a.f_isneginf()? } else { never.shallow_clone() };
                let high = if self.detect.1 { a.f_isposinf()? } else { never };
                low.f_logical_or(&high)?
            }
            kind => {
                let b = inputs.get(1)?;
                match kind {
                    "And" => a.f_logical_and(b)?,
                    "Or" => a.f_logical_or(b)?,
                    "Xor" => a.f_logical_xor(b)?,
                    "Equal" => a.f_eq_tensor(b)?,
                    "Greater" => a.f_gt_tensor(b)?,
                    "GreaterOrEqual" => a.f_ge_tensor(b)?,
                    "Less" => a.f_lt_tensor(b)?,
                    "LessOrEqual" => a.f_le_tensor(b)?,
                    "BitwiseAnd" => a.f_bitwise_and_tensor(b)?,
                    "BitwiseOr" => a.f_bitwise_or_tensor(b)?,
                    "BitwiseXor" => a.f_bitwise_xor_tensor(b)?,
                    other => invalid!("`{other}` is not logic"),
                }
            }
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

    fn gives_reals(&self) -> bool {
        false
    }
}
