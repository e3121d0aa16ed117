//! Functions of one tensor, element by element, and activations.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::own;
use crate::attributes::Attributes;
use crate::axes::AxisLinks;
use crate::behaviour::{Clamp, End, Matters, OutputRange, Quantization};
use crate::error::{OpResult, invalid};
use crate::op::{Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];

/// An elementwise function. `a` and `b` are the activation's parameters (alpha and beta or gamma), where it has any.
#[derive(Debug)]
struct Unary {
    kind: &'static str,
    a: f64,
    b: f64,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let (a, b) = match kind {
        "LeakyRelu" => (attributes.get_float("alpha", 0.01)?, 0.0),
        "Elu" | "Celu" | "ThresholdedRelu" => (attributes.get_float("alpha", 1.0)?, 0.0),
        "Selu" => {
            (attributes.get_float("alpha", 1.673_263_192_176_818_8)?, attributes.get_float("gamma", 1.050_701_022_148_132_3)?)
        }
        "HardSigmoid" => (attributes.get_float("alpha", 0.2)?, attributes.get_float("beta", 0.5)?),
        "Shrink" => (attributes.get_float("bias", 0.0)?, attributes.get_float("lambd", 0.5)?),
        "Gelu" => match attributes.get_str("approximate", "none")? {
            "none" => (0.0, 0.0),
            "tanh" => (1.0, 0.0),
            other => invalid!("approximate=`{other}` is not known"),
        },
        _ => (0.0, 0.0),
    };
    Ok(Some(Arc::new(Unary { kind, a, b })))
}

impl Unary {
    fn compute(&self, x: &Tensor, inputs: &Inputs, mode: Mode) -> OpResult<Tensor> {
        let (a, b) = (self.a, self.b);
        Ok(match self.kind {
            "Abs" => x.f_abs()?,
            "Acos" => x.f_acos()?,
            "Acosh" => x.f_acosh()?,
            "Asin" => x.f_asin()?,
            "Asinh" => x.f_asinh()?,
            "Atan" => x.f_atan()?,
            "Atanh" => x.f_atanh()?,
            "Ceil" => x.f_ceil()?,
            "Celu" => {
                let below = x.f_div_scalar(a)?.f_expm1()?.f_mul_scalar(a)?.f_clamp_max(0.0)?;
                x.f_clamp_min(0.0)?.f_add(&below)?
            }
            "Clip" => {
                // The bounds are scalars; torch wants the element type of x.
                let bound = |i| inputs.opt(i).map(|t| t.f_reshape([0i64; 0])).transpose();
                let (low, high) = (bound(1)?, bound(2)?);
                match (&low, &high) {
                    (None, None) => x.shallow_clone(),
                    _ => x.f_clamp_tensor(low.as_ref(), high.as_ref())?,
                }
            }
            "Cos" => x.f_cos()?,
            "Cosh" => x.f_cosh()?,
            "Dropout" => {
                let ratio = inputs.opt(1).map(|r| r.f_double_value(&[])).transpose()?.unwrap_or(0.5);
                x.f_dropout(ratio, mode != Mode::Predict)?
            }
            "Elu" => {
                let below = x.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(a)?;
                x.f_clamp_min(0.0)?.f_add(&below)?
            }
            "Erf" => x.f_erf()?,
            "Exp" => x.f_exp()?,
            "Floor" => x.f_floor()?,
            "Gelu" => x.f_gelu(if a == 0.0 { "none" } else { "tanh" })?,
            "HardSigmoid" => x.f_mul_scalar(a)?.f_add_scalar(b)?.f_clamp(0.0, 1.0)?,
            "HardSwish" => x.f_hardswish()?,
            "Identity" => x.shallow_clone(),
            "LeakyRelu" => x.f_clamp_min(0.0)?.f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(a)?)?,
            "Log" => x.f_log()?,
            "Mish" => x.f_mish()?,
            "Neg" => x.f_neg()?,
            "PRelu" => {
                let slope = inputs.get(1)?;
                x.f_clamp_min(0)?.f_add(&x.f_clamp_max(0)?.f_mul(slope)?)?
            }
            "Reciprocal" => x.f_reciprocal()?,
            "Relu" => x.f_relu()?,
            "Round" => x.f_round()?,
            "Selu" => {
                let below = x.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(a)?;
                x.f_clamp_min(0.0)?.f_add(&below)?.f_mul_scalar(b)?
            }
            "Shrink" => {
                let low = x.f_add_scalar(a)?.f_mul(&x.f_lt(-b)?)?;
                low.f_add(&x.f_sub_scalar(a)?.f_mul(&x.f_gt(b)?)?)?.f_to_kind(x.kind())?
            }
            "Sigmoid" => x.f_sigmoid()?,
            "Sign" => x.f_sign()?,
            "Sin" => x.f_sin()?,
            "Sinh" => x.f_sinh()?,
            "Softplus" => x.f_softplus()?,
            "Softsign" => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?)?,
            "Sqrt" => x.f_sqrt()?,
            "Tan" => x.f_tan()?,
            "Tanh" => x.f_tanh()?,
            "ThresholdedRelu" => x.f_mul(&x.f_gt(a)?)?.f_to_kind(x.kind())?,
            other => invalid!("`{other}` is not an elementwise function"),
        })
    }
}

impl Operator for Unary {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let y = self.compute(x, inputs, mode)?;
        if self.kind == "Dropout" {
            // The optional second output says what was kept.
            let kept = if mode != Mode::Predict { y.f_ne(0)? } else { x.f_ones_like()?.f_to_kind(Kind::Bool)? };
            return Ok(vec![y, kept]);
        }
        Ok(vec![y])
    }

    fn axes(&self, links: &mut AxisLinks) {
        links.same_shape(0, 0);
        if self.kind == "PRelu" {
            links.broadcast(1);
        }
    }

    fn quantization(&self) -> Quantization {
        match self.kind {
            "Relu" | "Clip" => Quantization { fuses: true, ..Quantization::INTEGERS },
            "Identity" => Quantization::MOVES,
            "HardSwish" | "LeakyRelu" => Quantization::TFLITE,
            "Sigmoid" => Quantization::TFLITE.within(OutputRange::Unit),
            "Tanh" => Quantization::TFLITE.within(OutputRange::Symmetric),
            _ => Quantization::FLOAT,
        }
    }

    fn logistic(&self) -> Option<usize> {
        (self.kind == "Sigmoid").then_some(0)
    }

    fn clamp(&self) -> Option<Clamp> {
        match self.kind {
            "Relu" => Some(Clamp::AtZero),
            "Clip" => Some(Clamp::Between { low: 1, high: 2 }),
            _ => None,
        }
    }

    fn matters(&self, input: usize) -> Matters {
        match self.kind {
            _ if input > 0 => Matters::All,
            "Relu" => Matters::above(0.0),
            "Clip" => Matters::Between(End::Input(1), End::Input(2)),
            "HardSwish" => Matters::above(-3.0),
            "HardSigmoid" if self.a > 0.0 => Matters::Between(End::At(-self.b / self.a), End::At((1.0 - self.b) / self.a)),
            // Half a step of eight bits over the range of results is 1/512 of it.
            "Sigmoid" => Matters::near_zero(511f64.ln()),
            "Tanh" => Matters::near_zero(511f64.ln() / 2.0),
            "Erf" => Matters::near_zero(2.2),
            _ => Matters::All,
        }
    }

    fn is_view(&self) -> bool {
        matches!(self.kind, "Identity" | "Dropout")
    }

    fn is_homogeneous(&self) -> bool {
        matches!(self.kind, "Relu" | "LeakyRelu" | "Identity" | "Dropout")
    }

    fn is_random(&self) -> bool {
        self.kind == "Dropout"
    }
}
