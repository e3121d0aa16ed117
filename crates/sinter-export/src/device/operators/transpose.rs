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
        let (shape, order) = joined(&io.input(0).shape, &self.order);
        let refused = || io.refuse("moves more than four blocks of axes");
        let more = 4usize.checked_sub(order.len()).ok_or_else(refused)?;
        let shape = four(&shape, 1).ok_or_else(refused)?;
        let order = std::array::from_fn(|i| if i < more { i } else { order[i - more] + more });
        Ok(Box::new(TransposeKernel { shape, order }))
    }
}

/// The same with as few axes as do: those of length one left out, and neighbours that stay neighbours as one. A shuffle of channels has five axes, and
/// moves four.
fn joined(shape: &[i64], order: &[usize]) -> (Vec<i64>, Vec<usize>) {
    let long: Vec<usize> = order.iter().copied().filter(|&a| shape[a] != 1).collect();
    // Blocks in their new order, each a first axis and its length.
    let mut blocks: Vec<(usize, i64)> = Vec::new();
    let mut last = None;
    for &axis in &long {
        // Neighbours but for axes of length one between them.
        let follows = last.is_some_and(|before: usize| before < axis && !long.iter().any(|&a| before < a && a < axis));
        match blocks.last_mut().filter(|_| follows) {
            Some((_, length)) => *length *= shape[axis],
            None => blocks.push((axis, shape[axis])),
        }
        last = Some(axis);
    }
    let mut before = blocks.clone();
    before.sort_unstable();
    let place = |axis: usize| before.iter().filter(|(other, _)| *other < axis).count();
    (before.iter().map(|(_, length)| *length).collect(), blocks.iter().map(|(axis, _)| place(*axis)).collect())
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

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn axes_that_stay_together_are_one() {
        assert_eq!(joined(&[1, 2, 4, 6, 6], &[0, 2, 1, 3, 4]), (vec![2, 4, 36], vec![1, 0, 2]));
        assert_eq!(joined(&[1, 6, 6, 2, 4], &[0, 1, 2, 4, 3]), (vec![36, 2, 4], vec![0, 2, 1]));
        assert_eq!(joined(&[3, 1, 5], &[2, 1, 0]), (vec![3, 5], vec![1, 0]));
        assert_eq!(joined(&[1, 3, 5], &[0, 1, 2]), (vec![15], vec![0]));
        assert_eq!(joined(&[1, 1], &[1, 0]), (vec![], vec![]));
        assert_eq!(joined(&[2, 3, 4, 5, 6], &[4, 3, 2, 1, 0]).0.len(), 5);
    }
}
