//! Axes in another order.

use std::sync::Arc;

use sinter_model::Node;

use super::{Lowers, Prefers, axis_of};
use crate::device::arithmetic::{Rounding, each, four};
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, table};
use crate::device::layout::Layout;
use crate::device::lowering::{Lowering, Want};
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, list};

pub(super) const C: &str = include_str!("transpose.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Transpose"], prefers: Prefers::Plain, lower };

/// A transposition moves nothing: it says anew which axis is which.
fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, output) = (&node.inputs[0], &node.outputs[0]);
    let rank = l.shape(x)?.len();
    let perm: Vec<usize> = match node.attributes.opt_ints("perm")? {
        Some(perm) => perm.iter().map(|&p| axis_of(p, rank)).collect(),
        None => (0..rank).rev().collect(),
    };
    if perm.first() != Some(&0) {
        return Lowering::refuse(node, "it moves the batch");
    }
    match l.layout(x).transposed(&perm) {
        Some(layout) => l.alias(output, x, layout, &node.name),
        None => {
            let want = if l.is_integer(x) { Want::Integer } else { Want::Float };
            let tensor = l.read(x, want, &Layout::plain(rank), &node.name)?;
            let Some(layout) = Layout::plain(rank).transposed(&perm) else {
                return Lowering::refuse(node, "its perm is no permutation");
            };
            l.define(output, tensor, layout, &node.name)
        }
    }
}

/// What brings the axes of a tensor into an order.
pub(super) fn between(order: Vec<usize>) -> Arc<dyn DeviceOperator> {
    Arc::new(Transpose { order })
}

/// By the permutation in the constant second input.
#[derive(Debug)]
struct Transpose {
    order: Vec<usize>,
}

impl DeviceOperator for Transpose {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 39, version: io.version(), name: "TRANSPOSE", method: "AddTranspose" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (26, table(b, |_| {}))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        io.params(0)?;
        io.result()?;
        let shape = four(&io.input(0).shape, 1).ok_or_else(|| io.refuse("has more than four axes"))?;
        let more = 4 - self.order.len();
        let order = std::array::from_fn(|i| if i < more { i } else { self.order[i - more] + more });
        Ok(Box::new(TransposeKernel { shape, order }))
    }
}

/// Four axes at most: lengths before, and which axis comes at each place.
#[derive(Debug)]
struct TransposeKernel {
    shape: [i64; 4],
    order: [usize; 4],
}

impl Kernel for TransposeKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        let (shape, order) = (&self.shape, &self.order);
        let turned: [i64; 4] = std::array::from_fn(|a| shape[order[a]]);
        each(&turned, |to, at| {
            let mut from = [0; 4];
            (0..4).for_each(|a| from[order[a]] = at[a]);
            out[to] = inputs[0][(0..4).fold(0, |index, a| index * shape[a] + from[a]) as usize];
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let shape = call.number("int32_t", "shape", "[4]", &format!("{{{}}}", list(self.shape)));
        let order = call.number("int32_t", "order", "[4]", &format!("{{{}}}", list(self.order)));
        format!("sinter_transpose({shape}, {order}, {x}, {y});")
    }
}
