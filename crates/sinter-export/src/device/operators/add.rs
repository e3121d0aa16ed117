//! Sums and differences of two values.

use std::sync::Arc;

use sinter_model::{IntegerKernel, Multiplier, Node};

use super::binary::{self, Combines};
use super::{Lowers, Prefers};
use crate::device::activation::Activation;
use crate::device::arithmetic::{Broadcast, Rounding};
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, fused, table};
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, meeting, rescale};

pub(super) const C: &str = include_str!("add.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Add", "Sub"], prefers: Prefers::AsReaders, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let subtract = node.op.integer_kernel() != Some(IntegerKernel::Sum);
    let how = if subtract { Combines::Difference } else { Combines::Sum };
    binary::lower(l, node, how, |activation| Arc::new(Add { activation, subtract }))
}

/// The sum of two values, or their difference.
#[derive(Debug)]
pub(super) struct Add {
    pub activation: Activation,
    pub subtract: bool,
}

impl DeviceOperator for Add {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = io.version();
        match self.subtract {
            true => Builtin { code: 41, version, name: "SUB", method: "AddSub" },
            false => Builtin { code: 0, version, name: "ADD", method: "AddAdd" },
        }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (if self.subtract { 28 } else { 11 }, table(b, |b| fused(b, 0, self.activation)))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (x, b, y) = (io.params(0)?, io.params(1)?, io.result()?);
        let twice = 2.0 * x.scale(0).max(b.scale(0)) as f64;
        let (low, high) = io.ends(self.activation)?;
        let into = |scale: f32| io.multiplier(scale as f64 / twice);
        Ok(Box::new(AddKernel {
            zeros: [x.zero_point() as i32, b.zero_point() as i32],
            rescales: [into(x.scale(0))?, into(b.scale(0))?],
            factors: [x, b].map(|q| q.scale(0) / y.scale(0)),
            subtract: self.subtract,
            out_zero: y.zero_point() as i32,
            result: io.multiplier(twice / ((1u32 << 20) as f64 * y.scale(0) as f64))?,
            low,
            high,
            broadcast: Broadcast::of(io.input(0), io.input(1), io.output())
                .ok_or_else(|| io.refuse("has more than four axes"))?,
        }))
    }
}

/// Both are brought to a common scale first, twenty bits up; `subtract` turns the second's sign.
#[derive(Debug)]
struct AddKernel {
    zeros: [i32; 2],
    rescales: [Multiplier; 2],
    factors: [f32; 2],
    subtract: bool,
    out_zero: i32,
    result: Multiplier,
    low: i32,
    high: i32,
    broadcast: Broadcast,
}

impl AddKernel {
    fn sign(&self) -> i32 {
        if self.subtract { -1 } else { 1 }
    }
}

impl Kernel for AddKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding) {
        let at = |v: i8, i: usize| self.rescales[i].apply((v as i32 - self.zeros[i]) << 20);
        let sign = self.sign();
        // Both factors in 21 bits, so that one shift brings the sum down.
        let shift = 20 - self.factors[0].max(self.factors[1]).log2().floor() as i32;
        let multipliers = self.factors.map(|f| (f as f64 * 2f64.powi(shift)).round() as i64);
        self.broadcast.spread(|to, a, b| {
            let (a, b) = (inputs[0][a], inputs[1][b]);
            let sum = match rounding {
                Rounding::Fixed => self.result.apply(at(a, 0) + sign * at(b, 1)),
                Rounding::Float => {
                    let terms = [a as i64 - self.zeros[0] as i64, (b as i64 - self.zeros[1] as i64) * sign as i64];
                    let sum = terms[0] * multipliers[0] + terms[1] * multipliers[1];
                    ((sum + (1 << (shift - 1))) >> shift) as i32
                }
            };
            out[to] = (sum + self.out_zero).clamp(self.low, self.high) as i8;
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (a, b, y) = (call.input(0), call.input(1), call.result());
        let fields = format!(
            "{{{{{}, {}}}, {{{}, {}}}, {}, {}, {}, {}, {}, {}}}",
            self.zeros[0],
            self.zeros[1],
            rescale(&self.rescales[0]),
            rescale(&self.rescales[1]),
            self.sign(),
            self.out_zero,
            rescale(&self.result),
            self.low,
            self.high,
            meeting(&self.broadcast)
        );
        let sum = call.number("sinter_sum", "sum", "", &fields);
        format!("sinter_add(&{sum}, {a}, {b}, {y});")
    }
}
