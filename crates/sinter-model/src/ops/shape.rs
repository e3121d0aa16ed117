//! Shapes, casts and constants: operators whose result depends on the shape of their input, or on no input.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{own, wrap_axis};
use crate::attributes::{Attribute, Attributes, ElementType};
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::Quantization;
use crate::error::{OpResult, invalid};
use crate::op::{Adapted, Cost, Inputs, Mode, Operator};
use crate::tensor::ints_of;

pub(super) const KINDS: &[&str] = &[
    "Cast",
    "CastLike",
    "Constant",
    "ConstantOfShape",
    "EyeLike",
    "Flatten",
    "Range",
    "Reshape",
    "Shape",
    "Size",
    "Squeeze",
    "Unsqueeze",
];

#[derive(Debug)]
enum Shaping {
    Cast(ElementType),
    CastLike,
    Constant(Box<Held>),
    ConstantOfShape(Box<Held>),
    EyeLike { element: Option<ElementType>, diagonal: i64 },
    Flatten { axis: i64 },
    Range,
    Reshape { allow_zero: bool },
    Shape { start: i64, end: Option<i64> },
    Size,
    Squeeze { axes: Option<Vec<i64>> },
    Unsqueeze { axes: Option<Vec<i64>> },
}

/// A tensor that an operator carries; behind a mutex because libtorch's handles are not shared between threads.
#[derive(Debug)]
struct Held(std::sync::Mutex<Tensor>);

impl Held {
    fn new(tensor: Tensor) -> Box<Self> {
        Box::new(Self(std::sync::Mutex::new(tensor)))
    }

    fn get(&self) -> Tensor {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).shallow_clone()
    }
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let element = |name| -> OpResult<Option<ElementType>> {
        match attributes.opt_int(name)? {
            None => Ok(None),
            Some(code) => match ElementType::from_onnx(code as i32) {
                Some(element) => Ok(Some(element)),
                None => invalid!("element type {code} is not supported"),
            },
        }
    };
    Ok(Some(Arc::new(match kind {
        "Cast" => match element("to")? {
            Some(to) => Shaping::Cast(to),
            None => invalid!("attribute `to` is missing"),
        },
        "CastLike" => Shaping::CastLike,
        "Constant" => Shaping::Constant(Held::new(constant(attributes)?)),
        "ConstantOfShape" => {
            let value = attributes.opt_tensor("value")?;
            Shaping::ConstantOfShape(Held::new(value.unwrap_or_else(|| Tensor::from_slice(&[0f32]))))
        }
        "EyeLike" => Shaping::EyeLike { element: element("dtype")?, diagonal: attributes.get_int("k", 0)? },
        "Flatten" => Shaping::Flatten { axis: attributes.get_int("axis", 1)? },
        "Range" => Shaping::Range,
        "Reshape" => Shaping::Reshape { allow_zero: attributes.get_flag("allowzero", false)? },
        "Shape" => Shaping::Shape { start: attributes.get_int("start", 0)?, end: attributes.opt_int("end")? },
        "Size" => Shaping::Size,
        "Squeeze" => Shaping::Squeeze { axes: attributes.opt_ints("axes")? },
        _ => Shaping::Unsqueeze { axes: attributes.opt_ints("axes")? },
    })))
}

fn constant(attributes: &Attributes) -> OpResult<Tensor> {
    if let Some(tensor) = attributes.opt_tensor("value")? {
        return Ok(tensor);
    }
    if let Some((name, value)) = attributes.0.iter().next() {
        return Ok(match (name.as_str(), value) {
            ("value_float", Attribute::Float(v)) => Tensor::from_slice(&[*v]).f_reshape([0i64; 0])?,
            ("value_floats", Attribute::Floats(v)) => Tensor::from_slice(v),
            ("value_int", Attribute::Int(v)) => Tensor::from_slice(&[*v]).f_reshape([0i64; 0])?,
            ("value_ints", Attribute::Ints(v)) => Tensor::from_slice(v),
            _ => invalid!("a constant of attribute `{name}` is not supported"),
        });
    }
    invalid!("the constant has no value")
}

fn reshape(x: &Tensor, target: &[i64], allow_zero: bool) -> OpResult<Tensor> {
    let size = x.size();
    let mut shape = target.to_vec();
    for (i, n) in shape.iter_mut().enumerate() {
        if *n == 0 && !allow_zero {
            match size.get(i) {
                Some(&old) => *n = old,
                None => invalid!("shape {target:?} copies axis {i}, which input {size:?} does not have"),
            }
        }
    }
    Ok(x.f_reshape(shape)?)
}

impl Operator for Shaping {
    fn kind(&self) -> &'static str {
        match self {
            Self::Cast(_) => "Cast",
            Self::CastLike => "CastLike",
            Self::Constant(_) => "Constant",
            Self::ConstantOfShape(_) => "ConstantOfShape",
            Self::EyeLike { .. } => "EyeLike",
            Self::Flatten { .. } => "Flatten",
            Self::Range => "Range",
            Self::Reshape { .. } => "Reshape",
            Self::Shape { .. } => "Shape",
            Self::Size => "Size",
            Self::Squeeze { .. } => "Squeeze",
            Self::Unsqueeze { .. } => "Unsqueeze",
        }
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        Ok(vec![match self {
            Self::Cast(to) => inputs.get(0)?.f_to_kind(to.kind())?,
            Self::CastLike => inputs.get(0)?.f_to_kind(inputs.get(1)?.kind())?,
            Self::Constant(held) => held.get(),
            Self::ConstantOfShape(held) => {
                let Some(shape) = inputs.ints(0)? else { invalid!("the shape is missing") };
                held.get().f_reshape([0i64; 0])?.f_expand(shape, false)?.f_contiguous()?
            }
            Self::EyeLike { element, diagonal } => {
                let x = inputs.get(0)?;
                let (rows, columns) = x.size2()?;
                let kind = element.map_or(x.kind(), ElementType::kind);
                let ones = Tensor::f_ones([rows, columns], (Kind::Float, x.device()))?;
                ones.f_triu(*diagonal)?.f_tril(*diagonal)?.f_to_kind(kind)?
            }
            Self::Flatten { axis } => {
                let x = inputs.get(0)?;
                let size = x.size();
                let cut = if *axis < 0 { axis + size.len() as i64 } else { *axis }.clamp(0, size.len() as i64) as usize;
                let lead: i64 = size[..cut].iter().product();
                x.f_reshape([lead, size[cut..].iter().product()])?
            }
            Self::Range => {
                let (start, limit, delta) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
                let kind = start.kind();
                let value = |t: &Tensor| t.f_reshape([-1])?.f_double_value(&[0]);
                let (start, limit, delta) = (value(start)?, value(limit)?, value(delta)?);
                let count = ((limit - start) / delta).ceil().max(0.0);
                if !count.is_finite() || count > 1e18 || crate::memory::elements(&[count as i64], 8).is_err() {
                    invalid!("a range from {start} to {limit} by {delta} is too long");
                }
                let steps = Tensor::f_arange(count as i64, (Kind::Double, tch::Device::Cpu))?;
                steps.f_mul_scalar(delta)?.f_add_scalar(start)?.f_to_kind(kind)?
            }
            Self::Reshape { allow_zero } => {
                let Some(shape) = inputs.ints(1)? else { invalid!("the shape is missing") };
                reshape(inputs.get(0)?, &shape, *allow_zero)?
            }
            Self::Shape { start, end } => {
                let size = inputs.get(0)?.size();
                let rank = size.len() as i64;
                let clip = |i: i64| if i < 0 { i + rank } else { i }.clamp(0, rank) as usize;
                let (from, to) = (clip(*start), clip(end.unwrap_or(rank)));
                ints_of(&size[from..to.max(from)])
            }
            Self::Size => ints_of(&[inputs.get(0)?.numel() as i64]).f_reshape([0i64; 0])?,
            Self::Squeeze { axes } => {
                let x = inputs.get(0)?;
                match inputs.ints(1)?.or_else(|| axes.clone()) {
                    Some(axes) => {
                        let axes = axes.iter().map(|&a| wrap_axis(a, x.dim())).collect::<OpResult<Vec<_>>>()?;
                        if let Some(a) = axes.iter().find(|a| x.size()[**a as usize] != 1) {
                            invalid!("axis {a} of shape {:?} can't be squeezed", x.size());
                        }
                        x.f_squeeze_dims(&axes[..])?
                    }
                    None => x.f_squeeze()?,
                }
            }
            Self::Unsqueeze { axes } => {
                let x = inputs.get(0)?;
                let Some(axes) = inputs.ints(1)?.or_else(|| axes.clone()) else { invalid!("the axes are missing") };
                let rank = x.dim() + axes.len();
                let mut axes = axes.iter().map(|&a| wrap_axis(a, rank)).collect::<OpResult<Vec<_>>>()?;
                axes.sort_unstable();
                let mut y = x.shallow_clone();
                for axis in axes {
                    y = y.f_unsqueeze(axis)?;
                }
                y
            }
        }])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        Ok(match self {
            Self::ConstantOfShape(_) => inputs.ints(0)?,
            Self::EyeLike { .. } => Some(inputs.get(0)?.size()),
            _ => None,
        })
    }

    fn cost(&self, _shapes: &IoShapes) -> Cost {
        Cost::default()
    }

    fn axes(&self, links: &mut AxisLinks) {
        match self {
            Self::Cast(_) => links.same_shape(0, 0),
            Self::Flatten { .. } | Self::Reshape { .. } | Self::Squeeze { .. } | Self::Unsqueeze { .. } => {
                links.regroup(0, 0);
            }
            // The shape changes with the input: what is computed from it can't be followed.
            Self::Shape { .. } | Self::Size => links.fix_slot(Slot::In(0)),
            _ => links.fix_all(),
        }
    }

    fn adapt(&self, _attributes: &Attributes, old: &IoShapes, new: &IoShapes) -> Adapted {
        match self {
            Self::Reshape { .. } => {
                let (before, after) = (&old.outputs[0], &new.outputs[0]);
                let shape = after.iter().enumerate();
                // The first axis stays free where it was the batch: copy it.
                let keeps_batch = old.inputs[0].as_ref().and_then(|s| s.first()) == before.first();
                let values = shape.map(|(i, &n)| if i == 0 && keeps_batch { 0 } else { n }).collect();
                Adapted { attributes: None, constants: vec![(1, values)] }
            }
            _ => Adapted::default(),
        }
    }

    fn quantization(&self) -> Quantization {
        if self.is_view() { Quantization::MOVES } else { Quantization::FLOAT }
    }

    fn gives_reals(&self) -> bool {
        !matches!(self, Self::Cast(_) | Self::Range | Self::Shape { .. } | Self::Size)
    }

    fn is_view(&self) -> bool {
        matches!(self, Self::Flatten { .. } | Self::Reshape { .. } | Self::Squeeze { .. } | Self::Unsqueeze { .. })
    }

    fn reads_shape(&self) -> bool {
        matches!(self, Self::Shape { .. } | Self::Size)
    }

    fn target_shape(&self) -> Option<usize> {
        matches!(self, Self::Reshape { .. }).then_some(1)
    }
}
