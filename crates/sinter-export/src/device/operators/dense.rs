//! Dense layers: a matrix product with a stored matrix.

use std::sync::Arc;

use sinter_model::{IntegerKernel, Node};
use tch::Tensor;

use super::image::{integers, result, wanted};
use super::{Lowers, Prefers};
use crate::device::activation::Activation;
use crate::device::arithmetic::{Product, Rounding};
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, fused, slot, table};
use crate::device::layout::Layout;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::Call;

pub(super) const C: &str = include_str!("dense.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Gemm", "MatMul"], prefers: Prefers::Plain, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, weight) = (&node.inputs[0], &node.inputs[1]);
    let Some(stored) = l.model.weights.get(weight).filter(|w| w.size().len() == 2) else {
        return Lowering::refuse(node, "TensorFlow Lite's fully connected operator wants a stored matrix as second input");
    };
    let size = stored.size();
    let Some(IntegerKernel::Product { out_axis, .. }) = node.op.integer_kernel() else {
        return Lowering::refuse(node, "transA, alpha and beta have no counterpart in TensorFlow Lite");
    };
    let outputs = size[out_axis];
    let bias = node.inputs.get(2).filter(|b| !b.is_empty()).map(String::as_str);
    let fits = |n: usize| n == 1 || n == outputs as usize;
    if bias.is_some_and(|b| l.model.weights.get(b).is_none_or(|w| !fits(w.numel()))) {
        return Lowering::refuse(node, "its third input must be a stored vector");
    }
    let (activation, output) = l.fused(node)?;
    let value = l.shape(x)?;
    // A flattened image keeps its order: the weight's columns follow it.
    let layout = match l.layout(x) {
        flat @ Layout::Flat { .. } => flat,
        Layout::Order(_) => Layout::plain(value.len()),
    };
    let columns = match layout {
        Layout::Flat { channels, positions } => {
            let order = Tensor::f_arange(channels * positions, (tch::Kind::Int64, tch::Device::Cpu))?;
            Some(order.f_reshape([channels, positions])?.f_tr()?.f_reshape([-1])?)
        }
        Layout::Order(_) => None,
    };
    let quantizer = l.kernel_quantizer(weight, out_axis)?;
    let quantization = integers(l, &[x], &output)?.filter(|_| quantizer.is_some());
    let tensor = l.read(x, wanted(&quantization), &layout, &node.name)?;
    let order: &[i64] = if out_axis == 0 { &[0, 1] } else { &[1, 0] };
    let (kernel, bias) = match (&quantization, &quantizer) {
        (Some(_), Some(quantizer)) => {
            let (kernel, params) = l.integer_weight(weight, quantizer, order, columns.as_ref())?;
            let input = l.integers_of(x).map_or(1.0, |q| q.scale(0));
            (kernel, l.integer_bias(bias, outputs as usize, input, &params)?)
        }
        _ => (l.float_weight(weight, order, columns.as_ref())?, l.float_bias(bias, outputs as usize)?),
    };
    let shape = l.shape(&node.outputs[0])?;
    let rank = shape.len();
    let op = Arc::new(FullyConnected { activation });
    let tensor = l.step(op, vec![tensor, kernel, bias], result(shape, quantization), &node.name);
    l.define(&output, tensor, Layout::plain(rank), &node.name)
}

/// Inputs x `[..., in]`, weight `[out, in]` and bias.
#[derive(Debug)]
struct FullyConnected {
    activation: Activation,
}

impl DeviceOperator for FullyConnected {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = match (io.is_int8(), io.output().shape.len() > 2) {
            (true, _) => 4,
            (false, true) => 5,
            (false, false) => 1,
        };
        Builtin { code: 9, version, name: "FULLY_CONNECTED", method: "AddFullyConnected" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        let options = table(b, |b| {
            fused(b, 0, self.activation);
            b.push_slot::<bool>(slot(2), true, false);
        });
        (8, options)
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (outputs, inputs) = (io.input(1).shape[0], io.input(1).shape[1]);
        let rows = io.input(0).len() as i64 / inputs.max(1);
        Ok(Box::new(DenseKernel { rows, inputs, outputs, product: io.product(self.activation, 0, true)? }))
    }
}

#[derive(Debug)]
struct DenseKernel {
    rows: i64,
    inputs: i64,
    outputs: i64,
    product: Product,
}

impl Kernel for DenseKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding) {
        let (p, n, x, w) = (&self.product, self.inputs, inputs[0], inputs[1]);
        for row in 0..self.rows {
            for channel in 0..self.outputs {
                let terms = (0..n).map(|i| (x[(row * n + i) as usize] as i32 - p.in_zero) * w[(channel * n + i) as usize] as i32);
                let sum = p.biases[channel as usize] + terms.sum::<i32>();
                out[(row * self.outputs + channel) as usize] = p.round(sum, channel, rounding);
            }
        }
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let product = call.product(&self.product);
        format!("sinter_dense({}, {}, {}, &{product}, {x}, {y});", self.rows, self.inputs, self.outputs)
    }
}
