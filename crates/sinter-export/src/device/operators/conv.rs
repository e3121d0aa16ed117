//! Convolutions: whole, in groups, and of each channel by itself.

use std::sync::Arc;

use sinter_model::Node;

use super::image::{self, Image, Padding, integers, result, wanted};
use super::{Lowers, Prefers};
use crate::device::activation::Activation;
use crate::device::arithmetic::{Product, Rounding};
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, fused, slot, strides, table};
use crate::device::layout::Layout;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::Call;
use crate::device::tensor::TensorInfo;
use crate::device::window::{Geometry, Window2d};

pub(super) const C: &str = include_str!("conv.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Conv"], prefers: Prefers::ChannelsLast, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, weight) = (&node.inputs[0], &node.inputs[1]);
    let bias = node.inputs.get(2).filter(|b| !b.is_empty()).map(String::as_str);
    if !l.model.weights.contains_key(weight) || bias.is_some_and(|b| !l.model.weights.contains_key(b)) {
        return Lowering::refuse(node, "its weight and bias must be stored, not computed");
    }
    let (activation, output) = l.fused(node)?;
    let size = l.shape(weight)?;
    let channels = l.shape(x)?[1];
    let (groups, outputs) = (node.attributes.get_int("group", 1)?, size[0]);
    let depthwise = groups > 1 && groups == channels;
    let quantizer = l.kernel_quantizer(weight, 0)?;
    let quantization = integers(l, &[x], &output)?.filter(|_| quantizer.is_some());
    let Image { tensor, flat } = image::read(l, node, wanted(&quantization))?;
    let (tensor, window) = image::window(l, node, tensor, &size[2..], Padding::Filled(None))?;
    // [out, in, height, width] to [out, height, width, in]; depthwise to [1, height, width, out].
    let order: Vec<i64> = match (depthwise, flat) {
        (false, false) => vec![0, 2, 3, 1],
        (false, true) => vec![0, 2, 1],
        (true, false) => vec![1, 2, 3, 0],
        (true, true) => vec![1, 2, 0],
    };
    let (kernel, bias) = match (&quantization, &quantizer) {
        (Some(_), Some(quantizer)) => {
            let (kernel, params) = l.integer_weight(weight, quantizer, &order, None)?;
            let input = l.integers_of(x).map_or(1.0, |q| q.scale(0));
            (kernel, l.integer_bias(bias, outputs as usize, input, &params)?)
        }
        _ => (l.float_weight(weight, &order, None)?, l.float_bias(bias, outputs as usize)?),
    };
    if flat {
        // Stored with a height of 1, and what made it float gives the same.
        let lift = |t: &mut TensorInfo| {
            t.shape.insert(1, 1);
            t.quantization = t.quantization.as_ref().map(|q| q.along(q.axis() + usize::from(q.axis() > 0)));
        };
        let made = l.program.steps.last().filter(|s| s.output == kernel).map(|s| s.inputs[0]);
        made.into_iter().chain([kernel]).for_each(|t| lift(&mut l.program.tensors[t]));
    }
    let mut shape = Layout::channels_last(4).shape(&[1, outputs, 0, 0]);
    let out = l.shape(&node.outputs[0])?;
    (shape[1], shape[2]) = if flat { (1, out[2]) } else { (out[2], out[3]) };
    let op: Arc<dyn DeviceOperator> = match depthwise {
        true => Arc::new(DepthwiseConv { window, multiplier: outputs / channels, activation }),
        false => Arc::new(Conv { window, activation }),
    };
    let tensor = l.step(op, vec![tensor, kernel, bias], result(shape, quantization), &node.name);
    image::define(l, &output, Image { tensor, flat }, node)
}

/// Inputs x, weight `[out, height, width, in]` and bias.
#[derive(Debug)]
struct Conv {
    window: Window2d,
    activation: Activation,
}

impl DeviceOperator for Conv {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = if io.is_int8() { 3 } else { 1 + i32::from(self.window.dilation != [1, 1]) };
        Builtin { code: 3, version, name: "CONV_2D", method: "AddConv2D" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        let options = table(b, |b| {
            strides(b, &self.window);
            fused(b, 3, self.activation);
            b.push_slot::<i32>(slot(4), self.window.dilation[1] as i32, 1);
            b.push_slot::<i32>(slot(5), self.window.dilation[0] as i32, 1);
        });
        (1, options)
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let groups = io.input(0).shape[3] / io.input(1).shape[3].max(1);
        let product = io.product(self.activation, 0, false)?;
        Ok(Box::new(ConvKernel { geometry: io.geometry(self.window), groups, product }))
    }
}

#[derive(Debug)]
struct ConvKernel {
    geometry: Geometry,
    groups: i64,
    product: Product,
}

impl Kernel for ConvKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding) {
        let (g, p, x, w) = (&self.geometry, &self.product, inputs[0], inputs[1]);
        let (each, per) = (g.in_channels / self.groups, g.out_channels / self.groups);
        let size = g.window.kernel[0] * g.window.kernel[1] * each;
        g.positions(|position, taps| {
            for channel in 0..g.out_channels {
                let first = channel / per * each;
                let mut sum = p.biases[channel as usize];
                for &(place, tap) in taps {
                    for c in 0..each {
                        let v = x[(place * g.in_channels + first + c) as usize] as i32 - p.in_zero;
                        sum += v * w[(channel * size + tap * each + c) as usize] as i32;
                    }
                }
                out[(position * g.out_channels + channel) as usize] = p.round(sum, channel, rounding);
            }
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let (product, window) = (call.product(&self.product), call.window(&self.geometry));
        format!("sinter_conv(&{window}, {}, &{product}, {x}, {y});", self.groups)
    }
}

/// Inputs x, weight `[1, height, width, out]` and bias; each input channel makes `multiplier` output channels.
#[derive(Debug)]
struct DepthwiseConv {
    window: Window2d,
    multiplier: i64,
    activation: Activation,
}

impl DeviceOperator for DepthwiseConv {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = if io.is_int8() { 3 } else { 1 + i32::from(self.window.dilation != [1, 1]) };
        Builtin { code: 4, version, name: "DEPTHWISE_CONV_2D", method: "AddDepthwiseConv2D" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        let options = table(b, |b| {
            strides(b, &self.window);
            b.push_slot::<i32>(slot(3), self.multiplier as i32, 0);
            fused(b, 4, self.activation);
            b.push_slot::<i32>(slot(5), self.window.dilation[1] as i32, 1);
            b.push_slot::<i32>(slot(6), self.window.dilation[0] as i32, 1);
        });
        (2, options)
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let product = io.product(self.activation, 3, false)?;
        Ok(Box::new(DepthwiseKernel { geometry: io.geometry(self.window), product }))
    }
}

#[derive(Debug)]
struct DepthwiseKernel {
    geometry: Geometry,
    product: Product,
}

impl Kernel for DepthwiseKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding) {
        let (g, p, x, w) = (&self.geometry, &self.product, inputs[0], inputs[1]);
        let multiplier = g.out_channels / g.in_channels;
        g.positions(|position, taps| {
            for channel in 0..g.out_channels {
                let mut sum = p.biases[channel as usize];
                for &(place, tap) in taps {
                    let v = x[(place * g.in_channels + channel / multiplier) as usize] as i32 - p.in_zero;
                    sum += v * w[(tap * g.out_channels + channel) as usize] as i32;
                }
                out[(position * g.out_channels + channel) as usize] = p.round(sum, channel, rounding);
            }
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y) = (call.input(0), call.result());
        let (product, window) = (call.product(&self.product), call.window(&self.geometry));
        format!("sinter_depthwise(&{window}, &{product}, {x}, {y});")
    }
}
