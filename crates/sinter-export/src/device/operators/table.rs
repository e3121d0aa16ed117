//! Functions of one value, element by element: in eight bits, a table of 256 answers.

use std::sync::Arc;

use sinter_model::{Levels, Node, OutputRange, QuantParams};

use super::image::{integers, result, wanted};
use super::{Lowers, Prefers};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, slot, table};
use crate::device::layout::Layout;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, list};

pub(super) const C: &str = include_str!("table.c");

pub(super) const LOWERS: Lowers =
    Lowers { kinds: &["HardSwish", "LeakyRelu", "Sigmoid", "Tanh"], prefers: Prefers::Plain, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let layout = l.layout(&node.inputs[0]);
    let op: Arc<dyn DeviceOperator> = match node.kind() {
        "Sigmoid" => Arc::new(Function::Sigmoid),
        "Tanh" => Arc::new(Function::Tanh),
        "HardSwish" => Arc::new(Function::HardSwish),
        _ => Arc::new(Function::LeakyRelu { slope: node.attributes.get_float("alpha", 0.01)? as f32 }),
    };
    let range = node.op.quantization().range;
    elementwise(l, node, op, layout, range)
}

/// One step over every element, in integers where the value and the result are; `range`: what the kernel gives whatever it reads.
pub(super) fn elementwise(
    l: &mut Lowering,
    node: &Node,
    op: Arc<dyn DeviceOperator>,
    layout: Layout,
    range: Option<OutputRange>,
) -> Result<(), LowerError> {
    let (x, output) = (&node.inputs[0], &node.outputs[0]);
    let quantization = integers(l, &[x], output)?;
    let tensor = l.read(x, wanted(&quantization), &layout, &node.name)?;
    let fixed = range.map(|range| {
        let (scale, lowest) = range.scale();
        QuantParams::of_tensor(8, Levels::Signed, scale, -128 - lowest)
    });
    let given = match (quantization, fixed) {
        (Some(_), Some(fixed)) => Some(fixed?),
        (quantization, _) => quantization,
    };
    let info = result(l.program.tensors[tensor].shape.clone(), given);
    let tensor = l.step(op, vec![tensor], info, &node.name);
    l.define(output, tensor, layout, &node.name)
}

#[derive(Debug)]
enum Function {
    Sigmoid,
    Tanh,
    HardSwish,
    LeakyRelu { slope: f32 },
}

impl DeviceOperator for Function {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = io.version();
        match self {
            Self::Sigmoid => Builtin { code: 14, version, name: "LOGISTIC", method: "AddLogistic" },
            Self::Tanh => Builtin { code: 28, version, name: "TANH", method: "AddTanh" },
            Self::LeakyRelu { .. } => Builtin { code: 98, version, name: "LEAKY_RELU", method: "AddLeakyRelu" },
            Self::HardSwish => Builtin { code: 117, version: 1, name: "HARD_SWISH", method: "AddHardSwish" },
        }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        match self {
            Self::LeakyRelu { slope } => (75, table(b, |b| b.push_slot::<f32>(slot(0), *slope, 0.0))),
            _ => (0, table(b, |_| {})),
        }
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let answer = |v: f64| match self {
            Self::Sigmoid => 1.0 / (1.0 + (-v).exp()),
            Self::Tanh => v.tanh(),
            Self::HardSwish => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::LeakyRelu { slope } if v < 0.0 => v * *slope as f64,
            Self::LeakyRelu { .. } => v,
        };
        Ok(Box::new(TableKernel::of(io, &answer)?))
    }
}

/// `table[x + 128]` for each element.
#[derive(Debug)]
pub(super) struct TableKernel {
    table: Vec<i8>,
}

impl TableKernel {
    /// The answers of a function of real numbers.
    fn of(io: &Io, f: &dyn Fn(f64) -> f64) -> Result<Self, LowerError> {
        let (x, y) = (io.params(0)?, io.result()?);
        let each = (-128..128).map(|q| {
            let value = f((q - x.zero_point()) as f64 * x.scale(0) as f64);
            ((value / y.scale(0) as f64).round() + y.zero_point() as f64).clamp(-128.0, 127.0) as i8
        });
        Ok(Self { table: each.collect() })
    }

    /// The input on the scale of the output, between two integers.
    pub fn rescaled(io: &Io, low: i32, high: i32) -> Result<Self, LowerError> {
        let (x, y) = (io.params(0)?, io.result()?);
        let by = io.multiplier(x.scale(0) as f64 / y.scale(0) as f64)?;
        let (from, to) = (x.zero_point() as i32, y.zero_point() as i32);
        Ok(Self { table: (-128..128).map(|q| (by.apply(q - from) + to).clamp(low, high) as i8).collect() })
    }
}

impl Kernel for TableKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        for (y, &v) in out.iter_mut().zip(inputs[0]) {
            *y = self.table[(v as i32 + 128) as usize];
        }
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y, count) = (call.input(0), call.result(), call.result_len());
        let table = call.number("int8_t", "table", "[256]", &format!("{{\n{}}}", list(&self.table)));
        format!("sinter_table({count}, {table}, {x}, {y});")
    }
}
