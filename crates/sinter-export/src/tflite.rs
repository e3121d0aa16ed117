//! TFLite flatbuffers, written field by field after TensorFlow's `schema.fbs` (version 3).

use std::collections::BTreeMap;

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Push, PushAlignment, UnionWIPOffset, VOffsetT, Vector, WIPOffset};

use crate::device::{Activation, Element, Op, Program, Slide, Step, TensorInfo};

/// Constants start at multiples of this many bytes, so that kernels read them in place.
const ALIGNMENT: usize = 16;

type Builder<'a> = FlatBufferBuilder<'a>;
type Table = WIPOffset<flatbuffers::TableFinishedWIPOffset>;
type Tables<'a> = WIPOffset<Vector<'a, ForwardsUOffset<flatbuffers::TableFinishedWIPOffset>>>;

/// The bytes of a `.tflite` file. Inputs and outputs are as in the program: pictures channels last, integers where it has integers.
pub fn tflite(program: &Program) -> Vec<u8> {
    let mut b = FlatBufferBuilder::with_capacity(1 << 16);
    b.push(Aligned);
    let (buffers, places) = buffers(&mut b, &program.tensors);
    let tensors: Vec<Table> = program.tensors.iter().zip(places).map(|(info, at)| tensor(&mut b, program, info, at)).collect();
    let tensors = b.create_vector(&tensors);
    let mut codes: Vec<(i32, i32)> = Vec::new();
    let mut operators = Vec::new();
    for step in &program.steps {
        let code = code(program, step);
        let index = codes.iter().position(|c| *c == code).unwrap_or_else(|| {
            codes.push(code);
            codes.len() - 1
        });
        operators.push(operator(&mut b, step, index as u32));
    }
    let operators = b.create_vector(&operators);
    let list = |values: &[usize]| values.iter().map(|&v| v as i32).collect::<Vec<_>>();
    let inputs = b.create_vector(&list(&program.inputs));
    let outputs = b.create_vector(&list(&program.outputs));
    let graph = table(&mut b, |b| {
        offset(b, 0, tensors);
        offset(b, 1, inputs);
        offset(b, 2, outputs);
        offset(b, 3, operators);
    });
    let graphs = b.create_vector(&[graph]);
    let codes: Vec<Table> = codes
        .into_iter()
        .map(|(code, version)| {
            table(&mut b, |b| {
                // Readers from before 2021 know the byte alone.
                b.push_slot::<i8>(slot(0), code.min(127) as i8, 0);
                b.push_slot::<i32>(slot(2), version, 1);
                b.push_slot::<i32>(slot(3), code, 0);
            })
        })
        .collect();
    let codes = b.create_vector(&codes);
    let description = b.create_string("Sinter");
    let model = table(&mut b, |b| {
        b.push_slot::<u32>(slot(0), 3, 0);
        offset(b, 1, codes);
        offset(b, 2, graphs);
        offset(b, 3, description);
        offset(b, 4, buffers);
    });
    b.finish(model, Some("TFL3"));
    b.finished_data().to_vec()
}

/// Nothing, at a multiple of [`ALIGNMENT`]: what is pushed once aligns the whole file.
struct Aligned;

impl Push for Aligned {
    type Output = ();

    unsafe fn push(&self, _dst: &mut [u8], _written: usize) {}

    fn size() -> usize {
        0
    }

    fn alignment() -> PushAlignment {
        PushAlignment::new(ALIGNMENT)
    }
}

fn slot(field: VOffsetT) -> VOffsetT {
    4 + 2 * field
}

fn offset<T>(b: &mut Builder, field: VOffsetT, value: WIPOffset<T>) {
    b.push_slot_always(slot(field), value);
}

fn table(b: &mut Builder, fill: impl FnOnce(&mut Builder)) -> Table {
    let start = b.start_table();
    fill(b);
    b.end_table(start)
}

/// The constants, each content once, behind the empty buffer that computed tensors have. Also gives each tensor's place.
fn buffers<'a>(b: &mut Builder<'a>, tensors: &[TensorInfo]) -> (Tables<'a>, Vec<u32>) {
    let mut known: BTreeMap<&[u8], u32> = BTreeMap::new();
    let mut written = vec![table(b, |_| {})];
    let places = tensors
        .iter()
        .map(|info| {
            let Some(data) = info.data.as_deref() else { return 0 };
            *known.entry(data).or_insert_with(|| {
                // The file grows downwards: what is added first stands behind the data and brings its start to a multiple.
                let used = b.unfinished_data().len() + data.len();
                for _ in used..used.next_multiple_of(ALIGNMENT) {
                    b.push(0u8);
                }
                let data = b.create_vector(data);
                written.push(table(b, |b| offset(b, 0, data)));
                written.len() as u32 - 1
            })
        })
        .collect();
    (b.create_vector(&written), places)
}

fn tensor(b: &mut Builder, program: &Program, info: &TensorInfo, buffer: u32) -> Table {
    let ints = |values: &[i64]| values.iter().map(|&n| n as i32).collect::<Vec<_>>();
    let shape = b.create_vector(&ints(&info.shape));
    let ends = program.inputs.iter().chain(&program.outputs).any(|&t| std::ptr::eq(&program.tensors[t], info));
    // Runtimes that can resize learn that the batch is free.
    let signature = ends.then(|| {
        let mut free = ints(&info.shape);
        free.first_mut().into_iter().for_each(|n| *n = -1);
        b.create_vector(&free)
    });
    let name = (!info.name.is_empty()).then(|| b.create_string(&info.name));
    let quantization = info.quantization.as_ref().map(|q| {
        let scales = b.create_vector(&q.scales);
        let zero_points = b.create_vector(&q.zero_points.iter().map(|&z| z as i64).collect::<Vec<_>>());
        table(b, |b| {
            offset(b, 2, scales);
            offset(b, 3, zero_points);
            b.push_slot::<i32>(slot(6), q.axis as i32, 0);
        })
    });
    let element: i8 = match info.element {
        Element::Float32 => 0,
        Element::Float16 => 1,
        Element::Int32 => 2,
        Element::Int8 => 9,
    };
    table(b, |b| {
        offset(b, 0, shape);
        b.push_slot::<i8>(slot(1), element, 0);
        b.push_slot::<u32>(slot(2), buffer, 0);
        name.into_iter().for_each(|name| offset(b, 3, name));
        quantization.into_iter().for_each(|q| offset(b, 4, q));
        signature.into_iter().for_each(|s| offset(b, 7, s));
    })
}

/// The builtin code of a step and the version of the operator that first took its types.
fn code(program: &Program, step: &Step) -> (i32, i32) {
    let int8 = step.inputs.first().is_some_and(|&t| program.tensors[t].element == Element::Int8);
    let half = step.inputs.first().is_some_and(|&t| program.tensors[t].element == Element::Float16);
    let second = 1 + i32::from(int8);
    match &step.op {
        Op::Add { .. } => (0, second),
        Op::AveragePool { .. } => (1, second),
        Op::Concat { .. } => (2, second),
        Op::Conv { slide, .. } => (3, if int8 { 3 } else { 1 + i32::from(slide.dilation != [1, 1]) }),
        Op::DepthwiseConv { slide, .. } => (4, if int8 { 3 } else { 1 + i32::from(slide.dilation != [1, 1]) }),
        Op::Dequantize => {
            let axes = program.tensors[step.inputs[0]].quantization.as_ref().is_some_and(|q| q.scales.len() > 1);
            (
                6,
                if axes {
                    5
                } else if half {
                    3
                } else {
                    2
                },
            )
        }
        Op::FullyConnected { .. } => {
            let wide = program.tensors[step.output].shape.len() > 2;
            (
                9,
                if int8 {
                    4
                } else if wide {
                    5
                } else {
                    1
                },
            )
        }
        Op::Sigmoid => (14, second),
        Op::MaxPool { .. } => (17, second),
        Op::Mul { .. } => (18, second),
        Op::Relu(Activation::ReluN1To1) => (20, 1),
        Op::Relu(Activation::Relu6) => (21, second),
        Op::Relu(_) => (19, second),
        Op::Reshape { .. } => (22, 1),
        Op::Softmax => (25, second),
        Op::Tanh => (28, second),
        Op::Pad if step.inputs.len() > 2 => (60, second),
        Op::Pad => (34, second),
        Op::Transpose { .. } => (39, second),
        Op::Mean { .. } => (40, second),
        Op::Sub { .. } => (41, second),
        Op::LeakyRelu { .. } => (98, second),
        Op::Quantize => (114, second),
        Op::HardSwish => (117, 1),
    }
}

/// The builtin operators of a program by TensorFlow Lite's names, each once: what a resolver must know.
pub fn operators(program: &Program) -> Vec<&'static str> {
    let name = |step: &Step| match &step.op {
        Op::Add { .. } => "ADD",
        Op::AveragePool { .. } => "AVERAGE_POOL_2D",
        Op::Concat { .. } => "CONCATENATION",
        Op::Conv { .. } => "CONV_2D",
        Op::DepthwiseConv { .. } => "DEPTHWISE_CONV_2D",
        Op::Dequantize => "DEQUANTIZE",
        Op::FullyConnected { .. } => "FULLY_CONNECTED",
        Op::Sigmoid => "LOGISTIC",
        Op::MaxPool { .. } => "MAX_POOL_2D",
        Op::Mul { .. } => "MUL",
        Op::Relu(Activation::ReluN1To1) => "RELU_N1_TO_1",
        Op::Relu(Activation::Relu6) => "RELU6",
        Op::Relu(_) => "RELU",
        Op::Reshape { .. } => "RESHAPE",
        Op::Softmax => "SOFTMAX",
        Op::Tanh => "TANH",
        Op::Pad if step.inputs.len() > 2 => "PADV2",
        Op::Pad => "PAD",
        Op::Transpose { .. } => "TRANSPOSE",
        Op::Mean { .. } => "MEAN",
        Op::Sub { .. } => "SUB",
        Op::LeakyRelu { .. } => "LEAKY_RELU",
        Op::Quantize => "QUANTIZE",
        Op::HardSwish => "HARD_SWISH",
    };
    let mut names: Vec<&str> = program.steps.iter().map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn operator(b: &mut Builder, step: &Step, index: u32) -> Table {
    let inputs = b.create_vector(&step.inputs.iter().map(|&t| t as i32).collect::<Vec<_>>());
    let outputs = b.create_vector(&[step.output as i32]);
    let (kind, options) = options(b, step);
    table(b, |b| {
        b.push_slot::<u32>(slot(0), index, 0);
        offset(b, 1, inputs);
        offset(b, 2, outputs);
        b.push_slot::<u8>(slot(3), kind, 0);
        if kind != 0 {
            offset(b, 4, WIPOffset::<UnionWIPOffset>::new(options.value()));
        }
    })
}

/// The union member of an operator's options and its table.
fn options(b: &mut Builder, step: &Step) -> (u8, Table) {
    let stride = |b: &mut Builder, slide: &Slide| {
        b.push_slot::<i8>(slot(0), i8::from(!slide.same), 0);
        b.push_slot::<i32>(slot(1), slide.stride[1] as i32, 0);
        b.push_slot::<i32>(slot(2), slide.stride[0] as i32, 0);
    };
    let fused = |b: &mut Builder, field: VOffsetT, activation: Activation| {
        let code = match activation {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::ReluN1To1 => 2,
            Activation::Relu6 => 3,
        };
        b.push_slot::<i8>(slot(field), code, 0);
    };
    match &step.op {
        Op::Conv { slide, activation } => {
            let options = table(b, |b| {
                stride(b, slide);
                fused(b, 3, *activation);
                b.push_slot::<i32>(slot(4), slide.dilation[1] as i32, 1);
                b.push_slot::<i32>(slot(5), slide.dilation[0] as i32, 1);
            });
            (1, options)
        }
        Op::DepthwiseConv { slide, multiplier, activation } => {
            let options = table(b, |b| {
                stride(b, slide);
                b.push_slot::<i32>(slot(3), *multiplier as i32, 0);
                fused(b, 4, *activation);
                b.push_slot::<i32>(slot(5), slide.dilation[1] as i32, 1);
                b.push_slot::<i32>(slot(6), slide.dilation[0] as i32, 1);
            });
            (2, options)
        }
        Op::AveragePool { slide } | Op::MaxPool { slide } => {
            let options = table(b, |b| {
                stride(b, slide);
                b.push_slot::<i32>(slot(3), slide.kernel[1] as i32, 0);
                b.push_slot::<i32>(slot(4), slide.kernel[0] as i32, 0);
            });
            (5, options)
        }
        Op::FullyConnected { activation } => {
            let options = table(b, |b| {
                fused(b, 0, *activation);
                b.push_slot::<bool>(slot(2), true, false);
            });
            (8, options)
        }
        Op::Softmax => (9, table(b, |b| b.push_slot::<f32>(slot(0), 1.0, 0.0))),
        Op::Concat { axis } => (10, table(b, |b| b.push_slot::<i32>(slot(0), *axis as i32, 0))),
        Op::Add { activation } => (11, table(b, |b| fused(b, 0, *activation))),
        Op::Sub { activation } => (28, table(b, |b| fused(b, 0, *activation))),
        Op::Mul { activation } => (21, table(b, |b| fused(b, 0, *activation))),
        Op::Reshape { shape } => {
            let shape: Vec<i32> = shape.iter().enumerate().map(|(i, &n)| if i == 0 { -1 } else { n as i32 }).collect();
            let shape = b.create_vector(&shape);
            (17, table(b, |b| offset(b, 0, shape)))
        }
        Op::Pad => (if step.inputs.len() > 2 { 43 } else { 22 }, table(b, |_| {})),
        Op::Transpose { .. } => (26, table(b, |_| {})),
        Op::Mean { keep } => (27, table(b, |b| b.push_slot::<bool>(slot(0), *keep, false))),
        Op::LeakyRelu { slope } => (75, table(b, |b| b.push_slot::<f32>(slot(0), *slope, 0.0))),
        Op::Sigmoid | Op::Tanh | Op::Relu(_) | Op::HardSwish | Op::Quantize | Op::Dequantize => (0, table(b, |_| {})),
    }
}
