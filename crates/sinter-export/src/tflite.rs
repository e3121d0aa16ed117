//! TFLite flatbuffers, written field by field after TensorFlow's `schema.fbs` (version 3).

use std::collections::BTreeMap;

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

use crate::device::flat::{ALIGNMENT, Aligned, Builder, Table, Tables, offset, slot, table};
use crate::device::{Builtin, Element, Io, Program, TensorInfo};

/// The bytes of a `.tflite` file. Inputs and outputs are as in the program: images channels last, integers where it has integers.
pub fn tflite(program: &Program) -> Vec<u8> {
    let mut b = FlatBufferBuilder::with_capacity(1 << 16);
    b.push(Aligned);
    let (buffers, places, texts) = buffers(&mut b, &program.tensors, &program.metadata);
    let tensors: Vec<Table> = program.tensors.iter().zip(places).map(|(info, at)| tensor(&mut b, program, info, at)).collect();
    let tensors = b.create_vector(&tensors);
    let mut codes: Vec<(i32, i32)> = Vec::new();
    let mut operators = Vec::new();
    for step in &program.steps {
        let io = Io { program, step };
        let builtin = step.op.builtin(&io);
        let code = (builtin.code, builtin.version);
        let index = codes.iter().position(|c| *c == code).unwrap_or_else(|| {
            codes.push(code);
            codes.len() - 1
        });
        operators.push(operator(&mut b, &io, index as u32));
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
    let metadata: Vec<Table> = program
        .metadata
        .keys()
        .zip(texts)
        .map(|(key, buffer)| {
            let key = b.create_string(key);
            table(&mut b, |b| {
                offset(b, 0, key);
                b.push_slot::<u32>(slot(1), buffer, 0);
            })
        })
        .collect();
    let metadata = (!metadata.is_empty()).then(|| b.create_vector(&metadata));
    let model = table(&mut b, |b| {
        b.push_slot::<u32>(slot(0), 3, 0);
        offset(b, 1, codes);
        offset(b, 2, graphs);
        offset(b, 3, description);
        offset(b, 4, buffers);
        metadata.into_iter().for_each(|m| offset(b, 6, m));
    });
    b.finish(model, Some("TFL3"));
    b.finished_data().to_vec()
}

/// The constants, each content once, behind the empty buffer that computed tensors have, and texts behind them. Also gives each tensor's place, and each
/// text's.
fn buffers<'a>(
    b: &mut Builder<'a>,
    tensors: &[TensorInfo],
    metadata: &BTreeMap<String, String>,
) -> (Tables<'a>, Vec<u32>, Vec<u32>) {
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
    let texts = metadata
        .values()
        .map(|text| {
            let data = b.create_vector(text.as_bytes());
            written.push(table(b, |b| offset(b, 0, data)));
            written.len() as u32 - 1
        })
        .collect();
    (b.create_vector(&written), places, texts)
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
        let scales = b.create_vector(q.scales());
        let zero_points = b.create_vector(q.zero_points());
        table(b, |b| {
            offset(b, 2, scales);
            offset(b, 3, zero_points);
            b.push_slot::<i32>(slot(6), q.axis() as i32, 0);
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

/// The builtin operators of a program, each once by name: what a resolver must know.
pub fn operators(program: &Program) -> Vec<Builtin> {
    let mut all = program.builtins();
    all.sort_unstable_by_key(|b| b.name);
    all.dedup_by_key(|b| b.name);
    all
}

fn operator(b: &mut Builder, io: &Io, index: u32) -> Table {
    let inputs = b.create_vector(&io.step.inputs.iter().map(|&t| t as i32).collect::<Vec<_>>());
    let outputs = b.create_vector(&[io.step.output as i32]);
    let (kind, options) = io.step.op.options(io, b);
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
