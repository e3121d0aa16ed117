//! Padding with a constant.

use std::sync::Arc;

use sinter_model::Node;

use super::{Lowers, Prefers};
use crate::device::arithmetic::{Rounding, each, four};
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, table};
use crate::device::layout::Layout;
use crate::device::lowering::{Lowering, Want, float};
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::{Call, list};
use crate::device::tensor::TensorInfo;

pub(super) const C: &str = include_str!("pad.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Pad"], prefers: Prefers::AsReaders, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, output) = (&node.inputs[0], &node.outputs[0]);
    let rank = l.shape(x)?.len();
    let listed = node.attributes.opt_ints("pads")?;
    let listed = if listed.is_some() { listed } else { l.stored_ints(node, 1)? };
    let pads = listed.filter(|p| p.len() == 2 * rank && p.iter().all(|&n| n >= 0));
    let (Some(pads), "constant") = (pads, node.attributes.get_str("mode", "constant")?) else {
        return Lowering::refuse(node, "TensorFlow Lite's PAD wants stored lengths of 0 and more, and fills with a constant");
    };
    let filler = match node.inputs.get(2).and_then(|v| l.model.weights.get(v)) {
        Some(weight) => float(weight)?.f_reshape([-1])?.f_double_value(&[0])?,
        None => node.attributes.get_float("value", 0.0)?,
    };
    let layout = match l.layout(x) {
        order @ Layout::Order(_) => order,
        Layout::Flat { .. } => Layout::plain(rank),
    };
    let Layout::Order(order) = &layout else { return Lowering::refuse(node, "pads a flattened image") };
    let ordered: Vec<i64> = order.iter().flat_map(|&a| [pads[a], pads[rank + a]]).collect();
    let want = if l.is_integer(x) { Want::Integer } else { Want::Float };
    let tensor = l.read(x, want, &layout, &node.name)?;
    let padded = padded(l, tensor, &ordered, (filler != 0.0).then_some(filler), &node.name)?;
    l.define(output, padded, layout, &node.name)
}

/// Adds a Pad: `pads` before and after each axis.
pub(super) fn padded(
    l: &mut Lowering,
    tensor: usize,
    pads: &[i64],
    filler: Option<f64>,
    node: &str,
) -> Result<usize, LowerError> {
    let shape: Vec<i64> = l.program.tensors[tensor].shape.iter().zip(pads.chunks(2)).map(|(n, p)| n + p[0] + p[1]).collect();
    let values: Vec<i32> = pads.iter().map(|&p| p as i32).collect();
    let mut inputs = vec![tensor, l.int32s(&values, &[shape.len() as i64, 2])];
    let like = l.like(tensor);
    if let Some(filler) = filler {
        let data = match &like.quantization {
            Some(q) => vec![q.quantize(filler as f32) as i8 as u8],
            None => (filler as f32).to_le_bytes().to_vec(),
        };
        inputs.push(l.tensor(TensorInfo { shape: vec![1], data: Some(data), ..like.clone() }));
    }
    Ok(l.step(Arc::new(Pad), inputs, TensorInfo { shape, ..like }, node))
}

/// By the constant second input, `[rank, 2]`; filled with zero, or with the constant third input.
#[derive(Debug)]
struct Pad;

impl DeviceOperator for Pad {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = io.version();
        match io.step.inputs.len() > 2 {
            true => Builtin { code: 60, version, name: "PADV2", method: "AddPadV2" },
            false => Builtin { code: 34, version, name: "PAD", method: "AddPad" },
        }
    }

    fn options(&self, io: &Io, b: &mut Builder) -> (u8, Table) {
        (if io.step.inputs.len() > 2 { 43 } else { 22 }, table(b, |_| {}))
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (x, pads) = (io.params(0)?, io.int32s(1)?);
        io.result()?;
        let rank = io.input(0).shape.len();
        let shape = four(&io.input(0).shape, 1).ok_or_else(|| io.refuse("has more than four axes"))?;
        let side = |end: usize| four(&(0..rank).map(|a| pads[2 * a + end] as i64).collect::<Vec<_>>(), 0).unwrap_or_default();
        let filler = (io.step.inputs.len() > 2).then(|| io.input(2).data.as_ref()).flatten().and_then(|d| d.first());
        let value = filler.map_or(x.zero_point() as i8, |&byte| byte as i8);
        Ok(Box::new(PadKernel { shape, before: side(0), after: side(1), value }))
    }
}

/// Four axes at most, in front filled up with 1: lengths before, and pads before and after each.
#[derive(Debug)]
struct PadKernel {
    shape: [i64; 4],
    before: [i64; 4],
    after: [i64; 4],
    value: i8,
}

impl Kernel for PadKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        out.fill(self.value);
        let wide: [i64; 4] = std::array::from_fn(|a| self.shape[a] + self.before[a] + self.after[a]);
        each(&self.shape, |from, at| {
            let to = (0..4).fold(0, |to, a| to * wide[a] + at[a] + self.before[a]);
            out[to as usize] = inputs[0][from];
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let [shape, before, after] = [("shape", &self.shape), ("before", &self.before), ("after", &self.after)]
            .map(|(name, values)| call.number("int32_t", name, "[4]", &format!("{{{}}}", list(values))));
        format!("sinter_pad({shape}, {before}, {after}, {}, {x}, {y});", self.value)
    }
}
