//! Normalised exponentials.

use std::sync::Arc;

use sinter_model::Node;

use super::table::elementwise;
use super::{Lowers, Prefers, axis_of};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, slot, table};
use crate::device::layout::Layout;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, list};

pub(super) const C: &str = include_str!("softmax.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Softmax"], prefers: Prefers::Plain, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let rank = l.shape(&node.inputs[0])?.len();
    let axis = axis_of(node.attributes.get_int("axis", -1)?, rank);
    // The axis comes last.
    let layout = match l.layout(&node.inputs[0]) {
        Layout::Order(order) if order.last() == Some(&axis) => Layout::Order(order),
        _ if axis + 1 == rank => Layout::plain(rank),
        _ => {
            let mut order: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
            order.push(axis);
            Layout::Order(order)
        }
    };
    elementwise(l, node, Arc::new(Softmax), layout, node.op.quantization().range)
}

#[derive(Debug)]
struct Softmax;

impl DeviceOperator for Softmax {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 25, version: io.version(), name: "SOFTMAX", method: "AddSoftmax" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (9, table(b, |b| b.push_slot::<f32>(slot(0), 1.0, 0.0)))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (x, _) = (io.params(0)?, io.result()?);
        let length = io.input(0).shape.last().copied().unwrap_or(1);
        let each = (0..256).map(|d| ((-d as f64 * x.scale(0) as f64).exp() * (1u32 << 23) as f64).round() as u32);
        Ok(Box::new(SoftmaxKernel { rows: io.input(0).len() as i64 / length.max(1), length, powers: each.collect() }))
    }
}

/// Over rows; `powers[d]` is `exp(-d * scale)` in 23 bits.
#[derive(Debug)]
struct SoftmaxKernel {
    rows: i64,
    length: i64,
    powers: Vec<u32>,
}

impl Kernel for SoftmaxKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        let x = inputs[0];
        for row in 0..self.rows {
            let from = (row * self.length) as usize..((row + 1) * self.length) as usize;
            let top = x[from.clone()].iter().copied().max().unwrap_or(0) as i32;
            let power = |v: i8| self.powers[(top - v as i32) as usize] as u64;
            let sum: u64 = x[from.clone()].iter().map(|&v| power(v)).sum();
            for i in from {
                let share = (power(x[i]) * 256 + sum / 2) / sum;
                out[i] = (share as i32 - 128).min(127) as i8;
            }
        }
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let powers = call.number("uint32_t", "powers", "[256]", &format!("{{\n{}}}", list(&self.powers)));
        format!("sinter_softmax({}, {}, {powers}, {x}, {y});", self.rows, self.length)
    }
}
