//! Each operator of TensorFlow Lite that is read, as what it means in ONNX.

use sinter_model::{Attribute, Attributes, ints_of};
use tch::Tensor;

use crate::error::TfliteError;
use crate::reader::Reader;
use crate::schema::{Operator, Options};

/// Numbers of `BuiltinOperator`, and their names.
const NAMES: [(i32, &str); 29] = [
    (0, "ADD"),
    (1, "AVERAGE_POOL_2D"),
    (2, "CONCATENATION"),
    (3, "CONV_2D"),
    (4, "DEPTHWISE_CONV_2D"),
    (6, "DEQUANTIZE"),
    (9, "FULLY_CONNECTED"),
    (14, "LOGISTIC"),
    (17, "MAX_POOL_2D"),
    (18, "MUL"),
    (19, "RELU"),
    (20, "RELU_N1_TO_1"),
    (21, "RELU6"),
    (22, "RESHAPE"),
    (25, "SOFTMAX"),
    (28, "TANH"),
    (34, "PAD"),
    (39, "TRANSPOSE"),
    (40, "MEAN"),
    (41, "SUB"),
    (43, "SQUEEZE"),
    (45, "STRIDED_SLICE"),
    (60, "PADV2"),
    (70, "EXPAND_DIMS"),
    (77, "SHAPE"),
    (83, "PACK"),
    (98, "LEAKY_RELU"),
    (114, "QUANTIZE"),
    (117, "HARD_SWISH"),
];

/// An operator's name, or its number where it has none here.
pub(crate) fn name(code: i32) -> String {
    NAMES.iter().find(|(c, _)| *c == code).map_or_else(|| format!("builtin operator {code}"), |(_, name)| (*name).into())
}

fn unread(reason: impl Into<String>) -> TfliteError {
    TfliteError::Unsupported(reason.into())
}

/// Window, strides and padding as attributes.
fn window(padding: i8, stride: (Option<i32>, Option<i32>), dilation: (Option<i32>, Option<i32>)) -> Attributes {
    let pair =
        |(h, w): (Option<i32>, Option<i32>), default: i32| [i64::from(h.unwrap_or(default)), i64::from(w.unwrap_or(default))];
    let same = if padding == 0 { "SAME_UPPER" } else { "VALID" };
    Attributes::new()
        .with("auto_pad", Attribute::String(same.into()))
        .ints("strides", &pair(stride, 0))
        .ints("dilations", &pair(dilation, 1))
}

/// Adds what an operator means.
pub(crate) fn read(r: &mut Reader, code: i32, operator: &Operator) -> Result<(), TfliteError> {
    let list = |values: Option<flatbuffers::Vector<i32>>| values.into_iter().flatten().collect::<Vec<i32>>();
    let (inputs, outputs) = (list(operator.inputs()), list(operator.outputs()));
    let &[output] = &outputs[..] else { return Err(unread(format!("it has {} results, and one is read", outputs.len()))) };
    let out = r.index(output)?;
    let at = |r: &Reader, i: usize| r.index(inputs.get(i).copied().unwrap_or(-1));
    let given = |i: usize| inputs.get(i).is_some_and(|&t| t >= 0);
    // Arithmetic on shapes ends in a Reshape, whose result's shape the file states.
    if matches!(code, 45 | 77 | 83) && r.tensors[out].is_index() {
        return Ok(());
    }
    let options = operator.options();
    let fused = match &options {
        Options::Conv(o) => o.activation(),
        Options::Depthwise(o) => o.activation(),
        Options::Pool(o) => o.activation(),
        Options::Fused(o) => o.activation(),
        Options::Concatenation(o) => o.activation(),
        _ => None,
    }
    .unwrap_or(0);
    let plain = Attributes::new;
    match code {
        3 | 4 => {
            let (x, w) = (at(r, 0)?, at(r, 1)?);
            let depthwise = code == 4;
            let attributes = match &options {
                Options::Conv(o) => {
                    window(o.padding().unwrap_or(0), (o.stride_h(), o.stride_w()), (o.dilation_h(), o.dilation_w()))
                }
                Options::Depthwise(o) => {
                    window(o.padding().unwrap_or(0), (o.stride_h(), o.stride_w()), (o.dilation_h(), o.dilation_w()))
                }
                _ => return Err(unread("it has no options")),
            };
            let channels = r.tensors[x].shape.get(3).copied().unwrap_or(0);
            let shape = r.tensors[w].shape.clone();
            let [_, height, width, last] = shape[..] else { return Err(unread(format!("its weight is of shape {shape:?}"))) };
            let group = match depthwise {
                true => channels,
                false if last > 0 && channels % last == 0 => channels / last,
                false => return Err(unread(format!("a weight of shape {shape:?} over {channels} channels"))),
            };
            let attributes = attributes.ints("kernel_shape", &[height, width]).int("group", group);
            // [1, h, w, out] or [out, h, w, in].
            let order: &[i64] = if depthwise { &[3, 0, 1, 2] } else { &[0, 3, 1, 2] };
            let mut reads = vec![r.channels_first(x)?, r.stored(w, order)?];
            if given(2) {
                let bias = at(r, 2)?;
                reads.push(r.stored(bias, &[])?);
            }
            r.result(out, fused, true, ("Conv", attributes, reads))
        }
        9 => {
            let (x, w) = (at(r, 0)?, at(r, 1)?);
            let (mut value, shape) = (r.operand(x)?, r.tensors[x].shape.clone());
            let wide = r.tensors[w].shape.get(1).copied().unwrap_or(0);
            if shape.len() != 2 || shape[1] != wide {
                let flat = format!("{}.flat", r.tensors[out].name);
                let rows = if shape.iter().skip(1).product::<i64>() == wide { 0 } else { -1 };
                let target = r.constant(&format!("{flat}.shape"), ints_of(&[rows, wide]));
                r.node("Reshape", plain(), vec![value, target], &flat)?;
                r.rounds(x, &flat)?;
                value = flat;
            }
            let mut reads = vec![value, r.stored(w, &[])?];
            if given(2) {
                let bias = at(r, 2)?;
                reads.push(r.stored(bias, &[])?);
            }
            if r.tensors[out].shape.len() != 2 {
                return Err(unread("a result of other than two axes is not read"));
            }
            r.result(out, fused, false, ("Gemm", plain().int("transB", 1), reads))
        }
        1 | 17 => {
            let Options::Pool(o) = &options else { return Err(unread("it has no options")) };
            let attributes = window(o.padding().unwrap_or(0), (o.stride_h(), o.stride_w()), (None, None));
            let kernel = [o.height(), o.width()].map(|n| i64::from(n.unwrap_or(0)));
            let x = at(r, 0)?;
            let value = r.channels_first(x)?;
            let kind = if code == 1 { "AveragePool" } else { "MaxPool" };
            r.result(out, fused, true, (kind, attributes.ints("kernel_shape", &kernel), vec![value]))
        }
        0 | 18 | 41 => {
            let (a, b) = (at(r, 0)?, at(r, 1)?);
            let reads = vec![r.operand(a)?, r.operand(b)?];
            let kind = match code {
                0 => "Add",
                18 => "Mul",
                _ => "Sub",
            };
            r.result(out, fused, false, (kind, plain(), reads))
        }
        2 => {
            let Options::Concatenation(o) = &options else { return Err(unread("it has no options")) };
            let reads = (0..inputs.len()).map(|i| at(r, i).and_then(|t| r.operand(t))).collect::<Result<Vec<_>, _>>()?;
            r.result(out, fused, false, ("Concat", plain().int("axis", i64::from(o.axis().unwrap_or(0))), reads))
        }
        22 | 43 | 70 => {
            let x = at(r, 0)?;
            let (value, from, mut to) = (r.operand(x)?, r.tensors[x].shape.clone(), r.tensors[out].shape.clone());
            // The batch stays whatever it is.
            if let (Some(a), Some(b)) = (from.first(), to.first_mut())
                && a == b
            {
                *b = 0;
            }
            let target = r.constant(&format!("{}.shape", r.tensors[out].name), ints_of(&to));
            r.result(out, 0, false, ("Reshape", plain(), vec![value, target]))
        }
        34 | 60 => {
            let (x, pads) = (at(r, 0)?, at(r, 1)?);
            let pads = r.numbers(pads)?;
            let ends: Vec<i64> = pads.iter().step_by(2).chain(pads.iter().skip(1).step_by(2)).copied().collect();
            let value = r.operand(x)?;
            let ends = r.constant(&format!("{}.pads", r.tensors[out].name), ints_of(&ends));
            let mut reads = vec![value, ends];
            if code == 60 {
                let filling = at(r, 2)?;
                let filling = r.number(filling)?;
                reads.push(r.constant(&format!("{}.filling", r.tensors[out].name), Tensor::from(filling)));
            }
            r.result(out, 0, false, ("Pad", plain(), reads))
        }
        39 | 40 => {
            let (x, axes) = (at(r, 0)?, at(r, 1)?);
            let (value, axes) = (r.operand(x)?, r.numbers(axes)?);
            if code == 39 {
                return r.result(out, 0, false, ("Transpose", plain().ints("perm", &axes), vec![value]));
            }
            let keeps = matches!(&options, Options::Reducer(o) if o.keeps().unwrap_or(false));
            let axes = r.constant(&format!("{}.axes", r.tensors[out].name), ints_of(&axes));
            r.result(out, 0, false, ("ReduceMean", plain().int("keepdims", i64::from(keeps)), vec![value, axes]))
        }
        25 => {
            let Options::Number(o) = &options else { return Err(unread("it has no options")) };
            if o.value() != Some(1.0) {
                return Err(unread(format!("a beta of {} is not read, only 1", o.value().unwrap_or(0.0))));
            }
            let x = at(r, 0)?;
            let value = r.operand(x)?;
            r.result(out, 0, false, ("Softmax", plain().int("axis", -1), vec![value]))
        }
        98 => {
            let alpha = if let Options::Number(o) = &options { o.value().unwrap_or(0.0) } else { 0.0 };
            let x = at(r, 0)?;
            let value = r.operand(x)?;
            r.result(out, 0, false, ("LeakyRelu", plain().float("alpha", alpha), vec![value]))
        }
        6 | 14 | 28 | 114 | 117 => {
            let x = at(r, 0)?;
            let value = r.operand(x)?;
            let kind = match code {
                14 => "Sigmoid",
                28 => "Tanh",
                117 => "HardSwish",
                // Real values stay what they are; the result's tensor says whether they are rounded.
                _ => "Identity",
            };
            r.result(out, 0, false, (kind, plain(), vec![value]))
        }
        19..=21 => {
            let x = at(r, 0)?;
            let value = r.operand(x)?;
            let activation = match code {
                19 => 1,
                20 => 2,
                _ => 3,
            };
            r.result(out, activation, false, ("Identity", plain(), vec![value]))
        }
        _ => Err(unread("this operator is not read")),
    }
}
