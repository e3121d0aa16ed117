//! Products of two values.

use std::sync::Arc;

use sinter_model::{Multiplier, Node};

use super::binary::{self, Combines};
use super::{Lowers, Prefers};
use crate::device::activation::Activation;
use crate::device::arithmetic::{Broadcast, Rounding};
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, fused, table};
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, meeting, rescale};

pub(super) const C: &str = include_str!("mul.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Mul"], prefers: Prefers::AsReaders, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    binary::lower(l, node, Combines::Product, |activation| Arc::new(Mul { activation }))
}

/// The product of two values.
#[derive(Debug)]
pub(super) struct Mul {
    pub activation: Activation,
}

impl DeviceOperator for Mul {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 18, version: io.version(), name: "MUL", method: "AddMul" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (21, table(b, |b| fused(b, 0, self.activation)))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (x, b, y) = (io.params(0)?, io.params(1)?, io.result()?);
        let (low, high) = io.ends(self.activation)?;
        Ok(Box::new(MulKernel {
            zeros: [x.zero_point() as i32, b.zero_point() as i32],
            out_zero: y.zero_point() as i32,
            rescale: io.multiplier(x.scale(0) as f64 * b.scale(0) as f64 / y.scale(0) as f64)?,
            factor: x.scale(0) * b.scale(0) / y.scale(0),
            low,
            high,
            broadcast: Broadcast::of(io.input(0), io.input(1), io.output())
                .ok_or_else(|| io.refuse("has more than four axes"))?,
        }))
    }
}

#[derive(Debug)]
struct MulKernel {
    zeros: [i32; 2],
    out_zero: i32,
    rescale: Multiplier,
    factor: f32,
    low: i32,
    high: i32,
    broadcast: Broadcast,
}

impl Kernel for MulKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding) {
        self.broadcast.spread(|to, a, b| {
            let product = (inputs[0][a] as i32 - self.zeros[0]) * (inputs[1][b] as i32 - self.zeros[1]);
            let rounded = match rounding {
                Rounding::Fixed => self.rescale.apply(product),
                Rounding::Float => (product as f32 * self.factor).round_ties_even() as i32,
            };
            out[to] = (rounded + self.out_zero).clamp(self.low, self.high) as i8;
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (a, b, y) = (call.input(0), call.input(1), call.result());
        let fields = format!(
            "{{{{{}, {}}}, {}, {}, {}, {}, {}}}",
            self.zeros[0],
            self.zeros[1],
            self.out_zero,
            rescale(&self.rescale),
            self.low,
            self.high,
            meeting(&self.broadcast)
        );
        let product = call.number("sinter_multiplication", "mul", "", &fields);
        format!("sinter_mul(&{product}, {a}, {b}, {y});")
    }
}
