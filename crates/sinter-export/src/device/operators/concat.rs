//! Values side by side.

use std::sync::Arc;

use sinter_model::Node;

use super::image::{integers, result, wanted};
use super::quantize::quantize;
use super::{Lowers, Prefers, axis_of};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, slot, table};
use crate::device::layout::Layout;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::Call;
use crate::device::tensor::TensorInfo;

pub(super) const C: &str = include_str!("concat.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Concat"], prefers: Prefers::Plain, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let output = &node.outputs[0];
    let value = l.shape(output)?;
    let axis = axis_of(node.attributes.get_int("axis", 0)?, value.len());
    let layout = match l.layout(&node.inputs[0]) {
        order @ Layout::Order(_) => order,
        Layout::Flat { .. } => Layout::plain(value.len()),
    };
    let names: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
    let quantization = integers(l, &names, output)?;
    let mut inputs = Vec::new();
    for name in names {
        let tensor = l.read(name, wanted(&quantization), &layout, &node.name)?;
        // All of a concatenation have the scale of the result.
        inputs.push(match &quantization {
            Some(q) if l.program.tensors[tensor].quantization.as_ref() != Some(q) => {
                let info = TensorInfo { quantization: Some(q.clone()), ..l.like(tensor) };
                l.step(quantize(), vec![tensor], info, &node.name)
            }
            _ => tensor,
        });
    }
    let info = result(layout.shape(&value), quantization);
    let tensor = l.step(Arc::new(Concat { axis: layout.position(axis) }), inputs, info, &node.name);
    l.define(output, tensor, layout, &node.name)
}

#[derive(Debug)]
struct Concat {
    axis: usize,
}

impl DeviceOperator for Concat {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 2, version: io.version(), name: "CONCATENATION", method: "AddConcatenation" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (10, table(b, |b| b.push_slot::<i32>(slot(0), self.axis as i32, 0)))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        io.result()?;
        let count = io.step.inputs.len();
        (0..count).try_for_each(|i| io.params(i).map(drop))?;
        Ok(Box::new(ConcatKernel {
            outer: io.output().shape[..self.axis].iter().product(),
            lengths: (0..count).map(|i| io.input(i).shape[self.axis..].iter().product()).collect(),
        }))
    }
}

/// Parts of `[outer, length]` side by side: the length of each input's.
#[derive(Debug)]
struct ConcatKernel {
    outer: i64,
    lengths: Vec<i64>,
}

impl Kernel for ConcatKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        let whole: i64 = self.lengths.iter().sum();
        let mut start = 0;
        for (part, &length) in inputs.iter().zip(&self.lengths) {
            for o in 0..self.outer {
                let (to, from) = ((o * whole + start) as usize, (o * length) as usize);
                out[to..to + length as usize].copy_from_slice(&part[from..from + length as usize]);
            }
            start += length;
        }
    }

    fn call(&self, call: &mut Call) -> String {
        let whole: i64 = self.lengths.iter().sum();
        let y = call.result();
        let mut start = 0;
        let mut calls = Vec::new();
        for (i, length) in self.lengths.iter().enumerate() {
            let x = call.input(i);
            calls.push(format!("sinter_concat({}, {length}, {whole}, {start}, {x}, {y});", self.outer));
            start += length;
        }
        calls.join("\n    ")
    }
}
