//! Means over axes.

use std::sync::Arc;

use sinter_model::{Multiplier, Node};

use super::image::{integers, result, wanted};
use super::{Lowers, Prefers, axis_of};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, slot, table};
use crate::device::layout::Layout;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, rescale};

pub(super) const C: &str = include_str!("mean.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["ReduceMean"], prefers: Prefers::Plain, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, output) = (&node.inputs[0], &node.outputs[0]);
    let value = l.shape(x)?;
    let listed = node.attributes.opt_ints("axes")?;
    let listed = if listed.is_some() { listed } else { l.stored_ints(node, 1)? };
    let axes: Vec<usize> = match listed {
        Some(axes) => axes.iter().map(|&a| axis_of(a, value.len())).collect(),
        None => (0..value.len()).collect(),
    };
    if axes.contains(&0) {
        return Lowering::refuse(node, "it takes the mean over the batch");
    }
    let keep = node.attributes.get_int("keepdims", 1)? != 0;
    let layout = match l.layout(x) {
        order @ Layout::Order(_) => order,
        Layout::Flat { .. } => Layout::plain(value.len()),
    };
    let quantization = integers(l, &[x], output)?;
    let tensor = l.read(x, wanted(&quantization), &layout, &node.name)?;
    let mut positions: Vec<i32> = axes.iter().map(|&a| layout.position(a) as i32).collect();
    positions.sort_unstable();
    let list = l.int32s(&positions, &[positions.len() as i64]);
    let after = if keep { Some(layout) } else { layout.without(&axes) };
    let Some(after) = after else { return Lowering::refuse(node, "its input is a flattened image") };
    let info = result(after.shape(&l.shape(output)?), quantization);
    let tensor = l.step(Arc::new(Mean { keep }), vec![tensor, list], info, &node.name);
    l.define(output, tensor, after, &node.name)
}

/// Over the axes in the constant second input.
#[derive(Debug)]
pub(super) struct Mean {
    pub keep: bool,
}

impl DeviceOperator for Mean {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 40, version: io.version(), name: "MEAN", method: "AddMean" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (27, table(b, |b| b.push_slot::<bool>(slot(0), self.keep, false)))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (x, y, axes) = (io.params(0)?, io.result()?, io.int32s(1)?);
        let shape = &io.input(0).shape;
        let end = |found: Option<i32>| found.unwrap_or(0) as usize;
        let (first, last) = (end(axes.iter().copied().min()), end(axes.iter().copied().max()));
        if last - first + 1 != axes.len() {
            return Err(io.refuse("takes the mean over axes that are not neighbours"));
        }
        let count: i64 = shape[first..=last].iter().product();
        Ok(Box::new(MeanKernel {
            outer: shape[..first].iter().product(),
            count,
            inner: shape[last + 1..].iter().product(),
            in_zero: x.zero_point() as i32,
            out_zero: y.zero_point() as i32,
            rescale: io.multiplier(x.scale(0) as f64 / (y.scale(0) as f64 * count as f64))?,
        }))
    }
}

/// Means of `[outer, count, inner]` over the middle.
#[derive(Debug)]
struct MeanKernel {
    outer: i64,
    count: i64,
    inner: i64,
    in_zero: i32,
    out_zero: i32,
    rescale: Multiplier,
}

impl Kernel for MeanKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        let (x, count, inner) = (inputs[0], self.count, self.inner);
        for o in 0..self.outer {
            for i in 0..inner {
                let sum: i32 = (0..count).map(|n| x[((o * count + n) * inner + i) as usize] as i32 - self.in_zero).sum();
                out[(o * inner + i) as usize] = (self.rescale.apply(sum) + self.out_zero).clamp(-128, 127) as i8;
            }
        }
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let by = call.number("sinter_rescale", "rescale", "", &rescale(&self.rescale));
        let Self { outer, count, inner, in_zero, out_zero, .. } = self;
        format!("sinter_mean({outer}, {count}, {inner}, {in_zero}, {out_zero}, {by}, {x}, {y});")
    }
}
