//! Images: values over one or two spatial axes, channels last, and the windows that slide over them.

use sinter_model::{Node, QuantParams, Window};

use crate::device::error::LowerError;
use crate::device::layout::Layout;
use crate::device::lowering::{Lowering, Want};
use crate::device::tensor::{Element, TensorInfo};
use crate::device::window::Window2d;

use super::pad::padded;

/// A value over one or two spatial axes. One over one axis has height 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    /// `[1, height, width, channels]`.
    pub tensor: usize,
    /// Whether it has one spatial axis.
    pub flat: bool,
}

/// Reads a node's first input as an image.
pub(super) fn read(l: &mut Lowering, node: &Node, want: Want) -> Result<Image, LowerError> {
    let name = &node.inputs[0];
    let rank = l.shape(name)?.len();
    if !(3..=4).contains(&rank) {
        let reason = format!("its input has {rank} axes; TensorFlow Lite slides over one or two, of 3 or 4");
        return Lowering::refuse(node, reason);
    }
    let tensor = l.read(name, want, &Layout::channels_last(rank), &node.name)?;
    let tensor = match l.program.tensors[tensor].shape[..] {
        [n, length, channels] => l.reshape(tensor, vec![n, 1, length, channels], &node.name),
        _ => tensor,
    };
    Ok(Image { tensor, flat: rank == 3 })
}

/// Registers an image as the value that it is.
pub(super) fn define(l: &mut Lowering, name: &str, image: Image, node: &Node) -> Result<(), LowerError> {
    let Image { tensor, flat } = image;
    let tensor = match l.program.tensors[tensor].shape[..] {
        [n, _, width, channels] if flat => l.reshape(tensor, vec![n, width, channels], &node.name),
        _ => tensor,
    };
    l.define(name, tensor, Layout::channels_last(if flat { 3 } else { 4 }), &node.name)
}

/// What a result makes of padding under its window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Padding {
    /// It counts as this, and as zero where nothing is said.
    Filled(Option<f64>),
    /// It is passed over: an average divides by the elements that are there. TensorFlow Lite's averages do so always.
    PassedOver,
    /// It counts as zero and is divided by; what hangs over the far edge of it is not.
    Divided,
}

/// The window of a node over an image, and the image with the padding that the window can't say.
pub(super) fn window(
    l: &mut Lowering,
    node: &Node,
    image: usize,
    kernel: &[i64],
    padding: Padding,
) -> Result<(usize, Window2d), LowerError> {
    let shape = l.program.tensors[image].shape.clone();
    let spatial = if kernel.len() == 1 { &shape[2..3] } else { &shape[1..3] };
    let resolved = Window::parse(&node.attributes)?.resolve(spatial, kernel)?;
    let two = |values: &[i64], one: i64| if let [only] = *values { [one, only] } else { [values[0], values[1]] };
    let (kernel, stride, dilation) = (two(kernel, 1), two(&resolved.strides, 1), two(&resolved.dilations, 1));
    let (mut begin, mut end, out) = (two(&resolved.begin, 0), two(&resolved.end, 0), two(&resolved.out, 1));
    let (mut image, mut input) = (image, [shape[1], shape[2]]);
    let extent = [0, 1].map(|a| (kernel[a] - 1) * dilation[a] + 1);
    if padding == Padding::Divided && begin.iter().chain(&end).any(|&p| p > 0) {
        // As elements of the image it is divided by; what then still hangs over is passed over.
        let reached = |a: usize| (out[a] - 1) * stride[a] + extent[a] - input[a] - begin[a];
        let pads = [0, 1].map(|a| end[a].min(reached(a).max(0)));
        image = padded(l, image, &[0, 0, begin[0], pads[0], begin[1], pads[1], 0, 0], None, &node.name)?;
        input = [0, 1].map(|a| input[a] + begin[a] + pads[a]);
        (begin, end) = ([0, 0], [0, 0]);
    }
    let inside = [0, 1].map(|a| (input[a] - extent[a]).div_euclid(stride[a]) + 1);
    let total = [0, 1].map(|a| ((out[a] - 1) * stride[a] + extent[a] - input[a]).max(0));
    let found = |begin, same| Window2d { kernel, stride, dilation, begin, same };
    let filled_otherwise = matches!(padding, Padding::Filled(Some(_)));
    if begin == [0, 0] && out == inside && (end == [0, 0] || !filled_otherwise) {
        return Ok((image, found([0, 0], false)));
    }
    if (0..2).all(|a| out[a] == (input[a] + stride[a] - 1) / stride[a] && begin[a] == total[a] / 2) {
        return Ok((image, found(begin, true)));
    }
    let Padding::Filled(filler) = padding else {
        let reason = format!("averages without padding {begin:?} to {end:?} that is neither `SAME` nor none");
        return Lowering::refuse(node, reason);
    };
    let pads = [0, 1].map(|a| (total[a] - begin[a]).max(0));
    let pads = [0, 0, begin[0], pads[0], begin[1], pads[1], 0, 0];
    let padded = padded(l, image, &pads, filler, &node.name)?;
    Ok((padded, found([0, 0], false)))
}

/// The parameters of `output` if all of `inputs` are there in integers.
pub(super) fn integers(l: &Lowering, inputs: &[&str], output: &str) -> Result<Option<QuantParams>, LowerError> {
    let all = inputs.iter().all(|name| l.is_integer(name));
    if all { l.quantizer(output) } else { Ok(None) }
}

/// In integers where there are parameters.
pub(super) fn wanted(params: &Option<QuantParams>) -> Want {
    if params.is_some() { Want::Integer } else { Want::Float }
}

/// The type of a result of this shape.
pub(super) fn result(shape: Vec<i64>, quantization: Option<QuantParams>) -> TensorInfo {
    let element = if quantization.is_some() { Element::Int8 } else { Element::Float32 };
    TensorInfo { name: String::new(), shape, element, quantization, data: None }
}
