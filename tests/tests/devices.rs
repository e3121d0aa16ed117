//! TFLite files and C source: what they hold, what they answer, and what they refuse.

use std::process::Command;

use sinter_data::{Dataset, Order};
use sinter_estimate::TFLITE;
use sinter_exec::Runner;
use sinter_export::device::{Element, Program, Rounding, integers, lower, plan, run};
use sinter_export::{c, tflite};
use sinter_fixtures::{Sketch, bars, everything, noise, parse, sinter, write_bars, write_pipeline};
use sinter_model::{Attribute, Attributes, Mode, Model, to_f32s};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, apply};
use tch::{Device, Kind, Tensor};

const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Of the bars.
const CENTRED: &str = "normalize: { mean: [0.3], std: [0.25] }";

fn quantized(model: Model, data: &Dataset) -> Model {
    apply(&parse::<QuantizeConfig>("{ samples: 128 }"), model, &Context::alone(data, &TFLITE)).unwrap()
}

/// The share of answers of the reference that lie within one step of the simulation, and of those that are the same.
fn agreement(model: &Model, program: &Program, data: &Dataset, rounding: Rounding) -> (f64, f64) {
    let runner = Runner::new(model).unwrap();
    let (mut near, mut same, mut all) = (0, 0, 0);
    let q = program.tensors[program.outputs[0]].quantization.clone().unwrap();
    for batch in data.test.batches(1, Order::Stored) {
        let x = batch.unwrap().inputs.remove(0);
        let wanted = tch::no_grad(|| runner.run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
        let got = run(program, &integers(program, &[x]).unwrap(), rounding).unwrap().remove(0);
        for (v, got) in to_f32s(&wanted).unwrap().into_iter().zip(got) {
            let wanted = (v / q.scales()[0]).round() as i32 + q.zero_points()[0] as i32;
            near += usize::from((wanted - got as i32).abs() <= 1);
            same += usize::from(wanted == got as i32);
            all += 1;
        }
    }
    (near as f64 / all as f64, same as f64 / all as f64)
}

#[test]
fn the_reference_answers_as_the_simulation() {
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 256, 64, CENTRED);
    let model = quantized(everything(), &data);
    let program = lower(&model).unwrap();
    // All in integers, from the input to the output.
    assert!(program.steps.iter().all(|s| program.tensors[s.output].element == Element::Int8), "{program:?}");
    let names: Vec<&str> = program.builtins().iter().map(|b| b.name).collect();
    assert!(!names.contains(&"DEQUANTIZE") && !names.contains(&"TRANSPOSE"), "the transpositions cancel: {names:?}");
    for rounding in [Rounding::Float, Rounding::Fixed] {
        let (near, same) = agreement(&model, &program, &data, rounding);
        assert!(near >= 0.95 && same > 0.6, "{rounding:?}: {near} within a step, {same} the same");
    }
    // What lives at the same time lies apart.
    let memory = plan(&program);
    let largest = program.tensors.iter().filter(|t| t.data.is_none()).map(|t| t.bytes()).max().unwrap();
    let total: usize = program.tensors.iter().filter(|t| t.data.is_none()).map(|t| t.bytes()).sum();
    assert!(memory.bytes >= largest && memory.bytes < total, "{} of {total}", memory.bytes);
    assert_eq!(memory.profile.iter().copied().max(), Some(memory.profile.iter().copied().max().unwrap().min(memory.bytes)));
}

#[test]
fn the_c_source_answers_as_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 256, 64, CENTRED);
    let program = lower(&quantized(everything(), &data)).unwrap();
    for (i, batch) in data.test.batches(1, Order::Stored).take(4).enumerate() {
        let sample = integers(&program, &[batch.unwrap().inputs.remove(0)]).unwrap();
        let source = c::source(&program, &tflite(&program), &sample, Some(1234)).unwrap();
        let place = folder.path().join(format!("c{i}"));
        std::fs::create_dir(&place).unwrap();
        for (name, content) in &source.files {
            std::fs::write(place.join(name), content).unwrap();
        }
        let flags = "CFLAGS=-O1 -Werror -fsanitize=undefined,address -fno-sanitize-recover=all";
        let made = Command::new("make").current_dir(&place).args(["test", flags]).output().unwrap();
        let said = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success() && said.contains("answered exactly"), "{said}");
        let size = c::measure(&place, None).unwrap().unwrap();
        assert!(size.flash > source.constant_bytes as u64 && size.ram >= source.memory_bytes as u64, "{size:?}");
    }
}

/// What flash is estimated at without a compiler holds what the compiler says, on every core.
#[test]
fn estimated_flash_holds_what_compilers_say() {
    use sinter_estimate::Core::{CortexM0Plus, CortexM3, CortexM4, CortexM7, CortexM33, CortexM55};
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 128, 16, CENTRED);
    let models =
        [("everything", everything()), ("lenet", sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 12, 12], 4, 1).unwrap())];
    for (name, float) in models {
        let program = lower(&quantized(float, &data)).unwrap();
        let sample =
            integers(&program, &[data.test.batches(1, Order::Stored).next().unwrap().unwrap().inputs.remove(0)]).unwrap();
        let (low, high) = c::flash(&program).unwrap();
        let constants = c::source(&program, &tflite(&program), &sample, None).unwrap().constant_bytes as u64;
        assert!(constants < low && low < high && high - low < 5000, "{name}: {constants}, {low}, {high}");
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        for (file, content) in &c::source(&program, &tflite(&program), &sample, None).unwrap().files {
            std::fs::write(place.join(file), content).unwrap();
        }
        for core in [CortexM0Plus, CortexM3, CortexM4, CortexM7, CortexM33, CortexM55] {
            let Some(size) = c::measure(&place, Some(core)) else {
                eprintln!("skipped: arm-none-eabi-gcc is not here; `cargo xtask setup --boards` installs it");
                break;
            };
            let flash = size.unwrap().flash;
            assert!((low..=high).contains(&flash), "{name} on {}: {flash} is not in {low}..={high}", core.name());
        }
    }
}

/// The C source on a Cortex-M4 and a Cortex-M55, as QEMU has them.
#[test]
fn boards_answer_as_the_reference() {
    let Some(boards) = sinter_fixtures::boards() else {
        eprintln!("skipped: no GCC for Cortex-M and QEMU; `cargo xtask setup --boards` installs them");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 128, 16, CENTRED);
    let program = lower(&quantized(everything(), &data)).unwrap();
    let sample = integers(&program, &[data.test.batches(1, Order::Stored).next().unwrap().unwrap().inputs.remove(0)]).unwrap();
    for (file, content) in &c::source(&program, &tflite(&program), &sample, None).unwrap().files {
        std::fs::write(folder.path().join(file), content).unwrap();
    }
    for board in boards {
        let said = board.run(folder.path());
        assert!(said.contains("the test vector is answered exactly"), "{}: {said}", board.name);
    }
}

/// A mask of -1e9, or of minus infinity, leaves the scores their steps.
#[test]
fn masks_do_not_wipe_scores_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 128, 32, CENTRED);
    for value in [-1e4f32, -1e9, f32::MIN, f32::NEG_INFINITY] {
        let mut s = Sketch::new(&[1, 12, 12]);
        let mask: Vec<f32> = (0..144).map(|i| if i % 12 > i / 12 { value } else { 0.0 }).collect();
        s.weight("w", &[1, 1, 3, 3]).constant("mask", Tensor::from_slice(&mask).reshape([1, 1, 12, 12]));
        s.node("Conv", Attributes::new().ints("pads", &[1, 1, 1, 1]), &["x", "w"], "c");
        s.node("Add", Attributes::new(), &["c", "mask"], "m").node("Softmax", Attributes::new().int("axis", -1), &["m"], "p");
        s.node("Flatten", Attributes::new(), &["p"], "y");
        let float = s.finish();
        let program = lower(&quantized(float.copy(), &data)).unwrap();
        let q = program.tensors[program.outputs[0]].quantization.clone().unwrap();
        let runner = Runner::new(&float).unwrap();
        let (mut off, mut all) = (0f64, 0f64);
        for batch in data.test.batches(1, Order::Stored) {
            let x = batch.unwrap().inputs.remove(0);
            let wanted = tch::no_grad(|| runner.run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
            let got = run(&program, &integers(&program, &[x]).unwrap(), Rounding::Fixed).unwrap().remove(0);
            for (wanted, got) in to_f32s(&wanted).unwrap().into_iter().zip(got) {
                let got = (i64::from(got) - q.zero_point()) as f32 * q.scale(0);
                off += f64::from(wanted - got).powi(2);
                all += f64::from(wanted).powi(2);
            }
        }
        let error = (off / all).sqrt();
        assert!(error < 0.08, "a mask of {value}: {error}");
    }
}

#[test]
fn a_tflite_file_is_a_flatbuffer_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 256, 64, CENTRED);
    let float = everything();
    for program in [lower(&float).unwrap(), lower(&quantized(float, &data)).unwrap()] {
        let bytes = tflite(&program);
        assert_eq!(&bytes[4..8], b"TFL3");
        let at = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]) as usize;
        // The root table, and the vector of buffers in its fifth field: each content lies at a multiple of 16.
        let root = at(0);
        let field = |table: usize, i: usize| {
            let vtable = (table as i64 - at(table) as i32 as i64) as usize;
            let slot = u16::from_le_bytes([bytes[vtable + 4 + 2 * i], bytes[vtable + 5 + 2 * i]]) as usize;
            table + slot
        };
        let follow = |place: usize| place + at(place);
        let buffers = follow(field(root, 4));
        assert!(at(buffers) > 10);
        for i in 1..at(buffers) {
            let buffer = follow(buffers + 4 + 4 * i);
            assert_eq!((follow(field(buffer, 0)) + 4) % 16, 0, "buffer {i}");
        }
    }
}

#[test]
fn what_tflite_lacks_is_an_error_with_its_node() {
    let mut s = Sketch::new(&[1, 12, 12]);
    s.node("Flatten", Attributes::new(), &["x"], "flat").node("Erf", Attributes::new(), &["flat"], "strange");
    let error = lower(&s.finish()).unwrap_err().to_string();
    assert!(error.contains("Erf-strange") && error.contains("no operator"), "{error}");
    // In a pipeline it is found before anything runs.
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 64, 32);
    let mut s = Sketch::new(&[1, 12, 12]);
    s.weight("w", &[144, 4]).node("Flatten", Attributes::new(), &["x"], "flat").node("Erf", Attributes::new(), &["flat"], "e");
    s.node("MatMul", Attributes::new(), &["e", "w"], "y");
    sinter_onnx::save(&s.finish(), &folder.path().join("m.onnx"), sinter_onnx::Storage::Inside).unwrap();
    write_pipeline(folder.path(), "p", "model: { onnx: m.onnx }\nstages:\n  - quantize: {}\nexport: [c]\n");
    let output = sinter(folder.path(), &["run", "p.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("Erf") && said.contains("p.yaml"), "{said}");
}

/// A float model has a TFLite file and no C source: the error says what to do.
#[test]
fn c_source_wants_integers() {
    let program = lower(&everything()).unwrap();
    let error = integers(&program, &[Tensor::zeros([1, 1, 12, 12], FLOAT)]).unwrap_err().to_string();
    assert!(error.contains("quantize"), "{error}");
    assert!(c::source(&program, &tflite(&program), &[vec![0; 144]], None).unwrap_err().to_string().contains("quantize"));
    // Bits that no kernel for activations has are refused by name.
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 256, 64, CENTRED);
    let narrow = parse::<QuantizeConfig>("{ activations: uint4 }");
    let narrow = apply(&narrow, everything(), &Context::alone(&data, &TFLITE)).unwrap();
    let error = lower(&narrow).unwrap_err().to_string();
    assert!(error.contains("4 bits"), "{error}");
}

/// A signal of one axis runs as an image of height 1.
#[test]
fn one_axis_is_a_flat_image() {
    let none = Attributes::new;
    let mut s = Sketch::new(&[1, 12, 12]);
    s.constant("long", Tensor::from_slice(&[0i64, 12, 12]));
    s.weight("w", &[8, 12, 3]).weight("b", &[8]).weight("fc", &[48, 4]);
    s.node("Reshape", none().with("allowzero", Attribute::Int(0)), &["x", "long"], "signal");
    s.node("Conv", none().ints("pads", &[1, 1]).ints("strides", &[2]), &["signal", "w", "b"], "c");
    s.node("Relu", none(), &["c"], "c.r").node("Flatten", none(), &["c.r"], "flat").node("MatMul", none(), &["flat", "fc"], "y");
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 256, 64, CENTRED);
    let model = quantized(s.finish(), &data);
    let (near, _) = agreement(&model, &lower(&model).unwrap(), &data, Rounding::Fixed);
    assert!(near >= 0.99, "{near}");
}

/// The estimate of activation memory, made on the graph, is that of the program that runs.
#[test]
fn estimated_memory_is_that_of_the_program() {
    use sinter_model::zoo::ZooModel;
    for (zoo, kibibytes) in [(ZooModel::DsCnn, 16.0), (ZooModel::Resnet8, 48.0), (ZooModel::MobilenetV1, 54.0)] {
        let shape = zoo.default_input();
        let folder = tempfile::tempdir().unwrap();
        let data = noise(folder.path(), &shape);
        let model = quantized(zoo.build(&shape, 2, 1).unwrap(), &data);
        let estimate = sinter_estimate::memory(&model).unwrap();
        let planned = plan(&lower(&model).unwrap()).bytes;
        let off = (estimate.ram as f64 / planned as f64 - 1.0).abs();
        assert!(off < 0.02, "{}: {} estimated, {planned} planned", zoo.name(), estimate.ram);
        assert!((estimate.ram as f64 / 1024.0 - kibibytes).abs() < 1.0, "{}: {}", zoo.name(), estimate.ram);
        // A byte a weight, four a bias.
        let weights: usize = model.layers().iter().map(|l| model.weights[&l.weight].numel()).sum();
        assert!(estimate.flash > weights as u64 && estimate.flash < weights as u64 + weights as u64 / 10 + 4000, "{estimate:?}");
    }
}
