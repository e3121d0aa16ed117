//! Reshape and its kin: the same elements in another shape.

use std::sync::Arc;

use sinter_model::Node;

use super::{Lowers, Prefers};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, offset, table};
use crate::device::layout::Layout;
use crate::device::lowering::{Lowering, Want};
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::Call;

pub(super) const C: &str = include_str!("reshape.c");

pub(super) const LOWERS: Lowers =
    Lowers { kinds: &["Flatten", "Reshape", "Squeeze", "Unsqueeze"], prefers: Prefers::Plain, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, output) = (&node.inputs[0], &node.outputs[0]);
    let (from, to) = (l.shape(x)?, l.shape(output)?);
    if from.first() != Some(&1) || to.first() != Some(&1) {
        return Lowering::refuse(node, "it moves elements between samples");
    }
    let want = if l.is_integer(x) { Want::Integer } else { Want::Float };
    let layout = l.layout(x);
    let flattens = to.len() == 2 && from.len() > 2 && layout == Layout::channels_last(from.len());
    let (read, after) = match layout {
        layout if layout.is_plain(&from) => (layout, Layout::plain(to.len())),
        layout if flattens => (layout, Layout::Flat { channels: from[1], positions: from[2..].iter().product() }),
        _ => (Layout::plain(from.len()), Layout::plain(to.len())),
    };
    let tensor = l.read(x, want, &read, &node.name)?;
    let tensor = l.reshape(tensor, to, &node.name);
    l.define(output, tensor, after, &node.name)
}

/// What brings a tensor to a shape.
pub(super) fn between(shape: Vec<i64>) -> Arc<dyn DeviceOperator> {
    Arc::new(Reshape { shape })
}

/// To the shape in the constant second input.
#[derive(Debug)]
struct Reshape {
    shape: Vec<i64>,
}

impl DeviceOperator for Reshape {
    fn builtin(&self, _io: &Io) -> Builtin {
        Builtin { code: 22, version: 1, name: "RESHAPE", method: "AddReshape" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        let shape: Vec<i32> = self.shape.iter().enumerate().map(|(i, &n)| if i == 0 { -1 } else { n as i32 }).collect();
        let shape = b.create_vector(&shape);
        (17, table(b, |b| offset(b, 0, shape)))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        io.params(0)?;
        io.result()?;
        Ok(Box::new(Alias))
    }

    fn is_view(&self) -> bool {
        true
    }
}

/// The result is the input.
#[derive(Debug)]
struct Alias;

impl Kernel for Alias {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        out.copy_from_slice(inputs[0]);
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y, count) = (call.input(0), call.result(), call.result_len());
        match x == y {
            true => "/* the same elements in another shape */".into(),
            false => format!("sinter_copy({count}, {x}, {y});"),
        }
    }
}
