//! Reductions over axes, arg-max, running sums and top-k.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{own, wrap_axis};
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::Quantization;
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "CumSum",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "TopK",
];

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    Ok(Some(match kind {
        "ArgMax" | "ArgMin" => Arc::new(Arg {
            max: kind == "ArgMax",
            axis: attributes.get_int("axis", 0)?,
            keep: attributes.get_flag("keepdims", true)?,
            last: attributes.get_flag("select_last_index", false)?,
        }),
        "CumSum" => Arc::new(CumSum {
            exclusive: attributes.get_flag("exclusive", false)?,
            reverse: attributes.get_flag("reverse", false)?,
        }),
        "TopK" => Arc::new(TopK {
            axis: attributes.get_int("axis", -1)?,
            largest: attributes.get_flag("largest", true)?,
            sorted: attributes.get_flag("sorted", true)?,
        }),
        _ => Arc::new(Reduce {
            kind,
            axes: attributes.opt_ints("axes")?,
            keep: attributes.get_flag("keepdims", true)?,
            noop: attributes.get_flag("noop_with_empty_axes", false)?,
        }),
    }))
}

/// A reduction; its axes come as an attribute or as the second input, and default to all.
#[derive(Debug)]
struct Reduce {
    kind: &'static str,
    axes: Option<Vec<i64>>,
    keep: bool,
    noop: bool,
}

impl Reduce {
    fn compute(&self, x: &Tensor, axes: &[i64]) -> OpResult<Tensor> {
        let keep = self.keep;
        let sum = |t: &Tensor| t.f_sum_dim_intlist(axes, keep, t.kind());
        Ok(match self.kind {
            "ReduceSum" => sum(x)?,
            "ReduceMean" if x.is_floating_point() => x.f_mean_dim(axes, keep, x.kind())?,
            "ReduceMean" => x.f_to_kind(Kind::Double)?.f_mean_dim(axes, keep, Kind::Double)?.f_trunc()?.f_to_kind(x.kind())?,
            "ReduceMax" if x.kind() == Kind::Bool => x.f_to_kind(Kind::Uint8)?.f_amax(axes, keep)?.f_to_kind(Kind::Bool)?,
            "ReduceMin" if x.kind() == Kind::Bool => x.f_to_kind(Kind::Uint8)?.f_amin(axes, keep)?.f_to_kind(Kind::Bool)?,
            "ReduceMax" if x.numel() == 0 => self.over_nothing(x, axes, f64::NEG_INFINITY)?,
            "ReduceMin" if x.numel() == 0 => self.over_nothing(x, axes, f64::INFINITY)?,
            "ReduceMax" => x.f_amax(axes, keep)?,
            "ReduceMin" => x.f_amin(axes, keep)?,
            "ReduceProd" => {
                let mut y = x.shallow_clone();
                let mut sorted = axes.to_vec();
                sorted.sort_unstable();
                for &axis in sorted.iter().rev() {
                    y = y.f_prod_dim_int(axis, keep, x.kind())?;
                }
                y
            }
            "ReduceL1" => sum(&x.f_abs()?)?,
            "ReduceL2" => {
                let square = x.f_to_kind(if x.is_floating_point() { x.kind() } else { Kind::Double })?.f_square()?;
                sum(&square)?.f_sqrt()?.f_to_kind(x.kind())?
            }
            "ReduceSumSquare" => sum(&x.f_mul(x)?)?,
            "ReduceLogSum" => sum(x)?.f_log()?,
            "ReduceLogSumExp" => x.f_logsumexp(axes, keep)?,
            other => invalid!("`{other}` is not a reduction"),
        })
    }

    fn over_nothing(&self, x: &Tensor, axes: &[i64], value: f64) -> OpResult<Tensor> {
        Ok(x.f_sum_dim_intlist(axes, self.keep, x.kind())?.f_full_like(value)?)
    }

    fn axes_for(&self, given: Option<Vec<i64>>, rank: usize) -> OpResult<Option<Vec<i64>>> {
        match given.or_else(|| self.axes.clone()) {
            Some(axes) if !axes.is_empty() => Ok(Some(axes.iter().map(|&a| wrap_axis(a, rank)).collect::<OpResult<_>>()?)),
            _ if self.noop => Ok(None),
            _ => Ok(Some((0..rank as i64).collect())),
        }
    }
}

impl Operator for Reduce {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        match self.axes_for(inputs.ints(1)?, x.dim())? {
            None => Ok(vec![x.shallow_clone()]),
            Some(axes) if axes.is_empty() => {
                let one = self.compute(&x.f_reshape([1])?, &[0])?;
                Ok(vec![one.f_reshape([0i64; 0])?])
            }
            Some(axes) => Ok(vec![self.compute(x, &axes)?]),
        }
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: shapes.input_len(0) }
    }

    fn axes(&self, links: &mut AxisLinks) {
        // Which axes are reduced shows in the shapes: kept at length 1, or gone.
        let (x, y) = (links.shape(Slot::In(0)), links.shape(Slot::Out(0)));
        if x.len() == y.len() {
            for a in 0..x.len() {
                if x[a] == y[a] {
                    links.same((Slot::In(0), a), (Slot::Out(0), a));
                } else {
                    links.fix((Slot::In(0), a));
                }
            }
            return;
        }
        let Some(axes) = self.axes.clone().filter(|_| links.shapes.inputs.len() < 2) else {
            // The axes are an input, whose values the shapes don't show: spatial means drop the last axes.
            let lead = y.iter().zip(x).take_while(|(a, b)| a == b).count();
            if lead == y.len() {
                (0..lead).for_each(|a| links.same((Slot::In(0), a), (Slot::Out(0), a)));
                (lead..x.len()).for_each(|a| links.fix((Slot::In(0), a)));
            } else {
                links.fix_slot(Slot::In(0));
                links.fix_slot(Slot::Out(0));
            }
            return;
        };
        let gone: Vec<i64> = axes.iter().filter_map(|&a| wrap_axis(a, x.len()).ok()).collect();
        let mut o = 0;
        for a in 0..x.len() {
            if gone.contains(&(a as i64)) {
                links.fix((Slot::In(0), a));
            } else {
                links.same((Slot::In(0), a), (Slot::Out(0), o));
                o += 1;
            }
        }
    }

    fn quantization(&self) -> Quantization {
        if self.kind == "ReduceMean" { Quantization::TFLITE } else { Quantization::FLOAT }
    }

    fn averages(&self) -> bool {
        self.kind == "ReduceMean"
    }
}

/// The index of the largest or smallest element along an axis.
#[derive(Debug)]
struct Arg {
    max: bool,
    axis: i64,
    keep: bool,
    last: bool,
}

impl Operator for Arg {
    fn kind(&self) -> &'static str {
        if self.max { "ArgMax" } else { "ArgMin" }
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = wrap_axis(self.axis, x.dim())?;
        let pick = |t: &Tensor| if self.max { t.f_argmax(axis, self.keep) } else { t.f_argmin(axis, self.keep) };
        if !self.last {
            return Ok(vec![pick(x)?]);
        }
        let from_end = pick(&x.f_flip([axis])?)?;
        Ok(vec![from_end.f_neg()?.f_add_scalar(x.size()[axis as usize] - 1)?])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: shapes.input_len(0) }
    }

    fn gives_reals(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct CumSum {
    exclusive: bool,
    reverse: bool,
}

impl Operator for CumSum {
    fn kind(&self) -> &'static str {
        "CumSum"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let Some(axis) = inputs.ints(1)?.and_then(|a| a.first().copied()) else { invalid!("the axis is missing") };
        let axis = wrap_axis(axis, x.dim())?;
        let x = if self.reverse { x.f_flip([axis])? } else { x.shallow_clone() };
        let mut y = x.f_cumsum(axis, x.kind())?;
        if self.exclusive {
            y = y.f_sub(&x)?;
        }
        Ok(vec![if self.reverse { y.f_flip([axis])? } else { y }])
    }
}

#[derive(Debug)]
struct TopK {
    axis: i64,
    largest: bool,
    sorted: bool,
}

impl Operator for TopK {
    fn kind(&self) -> &'static str {
        "TopK"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let Some(k) = inputs.ints(1)?.and_then(|k| k.first().copied()) else { invalid!("k is missing") };
        let axis = wrap_axis(self.axis, x.dim())?;
        if !self.sorted {
            let (values, indices) = x.f_topk(k, axis, self.largest, false)?;
            return Ok(vec![values, indices]);
        }
        // Equal values come in the order of their indices: a stable sort keeps it, topk does not.
        let (values, indices) = x.f_sort_stable(true, axis, self.largest)?;
        Ok(vec![values.f_narrow(axis, 0, k)?, indices.f_narrow(axis, 0, k)?])
    }
}
