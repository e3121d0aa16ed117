//! One table of operators, and everything that runs them: the interpreter beside ONNX Runtime in float, and in integers the simulation, the
//! integer reference, the C source, and LiteRT where `cargo xtask setup --runtimes` installed it.

use std::path::Path;
use std::process::Command;

use sinter_data::{Dataset, Order};
use sinter_estimate::TFLITE;
use sinter_exec::Runner;
use sinter_export::device::{Program, Rounding, integers, lower, run};
use sinter_export::{OnnxRuntime, c, tflite};
use sinter_fixtures::{bars, operators, parse, root};
use sinter_model::{Mode, Model, to_f32s};
use sinter_onnx::{Storage, save};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, apply};
use tch::Tensor;

/// Runs the files of a folder in LiteRT: `NAME.tflite` on `NAME.in`, into `NAME.out`.
const LITERT: &str = "
import sys, pathlib, numpy as np
from ai_edge_litert.interpreter import Interpreter
for file in pathlib.Path(sys.argv[1]).glob('*.tflite'):
    i = Interpreter(str(file)); i.allocate_tensors()
    d = i.get_input_details()[0]
    i.set_tensor(d['index'], np.fromfile(file.with_suffix('.in'), np.int8).reshape(d['shape'])); i.invoke()
    i.get_tensor(i.get_output_details()[0]['index']).tofile(file.with_suffix('.out'))
";

fn predict(model: &Model, x: &Tensor) -> Tensor {
    tch::no_grad(|| Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().swap_remove(0)
}

fn data(folder: &Path) -> Dataset {
    bars(folder, 128, 16, "normalize: { mean: [0.3], std: [0.25] }")
}

fn samples(data: &Dataset, count: usize) -> Vec<Tensor> {
    data.test.batches(1, Order::Stored).take(count).map(|b| b.unwrap().inputs.remove(0)).collect()
}

#[test]
fn the_interpreter_answers_as_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let x = Tensor::cat(&samples(&data(folder.path()), 8), 0);
    let path = folder.path().join("case.onnx");
    for (name, model) in operators() {
        save(&model, &path, Storage::Inside).unwrap();
        let (ours, theirs) = (predict(&model, &x), OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(&x)).unwrap());
        let off = (&ours - &theirs).abs().max().double_value(&[]);
        assert!(ours.size() == theirs.size() && off < 1e-5, "{name}: off by {off}");
    }
}

#[test]
fn integers_answer_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let samples = samples(&data, 8);
    let mut files: Vec<(&str, Program, Vec<i8>)> = Vec::new();
    for (i, (name, float)) in operators().into_iter().enumerate() {
        let model = apply(&parse::<QuantizeConfig>("{ samples: 64 }"), float, &Context::alone(&data, &TFLITE)).unwrap();
        let program = lower(&model).unwrap();
        let q = program.tensors[program.outputs[0]].quantization.clone().unwrap();
        let (mut near, mut all) = (0, 0);
        for x in &samples {
            let given = integers(&program, std::slice::from_ref(x)).unwrap();
            for rounding in [Rounding::Float, Rounding::Fixed] {
                let answer = run(&program, &given, rounding).unwrap().remove(0);
                for (wanted, got) in to_f32s(&predict(&model, x)).unwrap().into_iter().zip(answer) {
                    near += usize::from((q.quantize(wanted) - i64::from(got)).abs() <= 1);
                    all += 1;
                }
            }
        }
        assert!(near * 1000 >= 999 * all, "{name}: {near} of {all} within a step of the simulation");
        let sample = integers(&program, std::slice::from_ref(&samples[0])).unwrap();
        let place = folder.path().join(format!("c{i}"));
        std::fs::create_dir(&place).unwrap();
        for (file, content) in &c::source(&program, &tflite(&program), &sample, None).unwrap().files {
            std::fs::write(place.join(file), content).unwrap();
        }
        match c::answers_its_test(&place) {
            Some(answer) => answer.unwrap_or_else(|e| panic!("{name} in C: {e}")),
            None => eprintln!("skipped: there is no C compiler"),
        }
        std::fs::write(folder.path().join(format!("{i}.tflite")), tflite(&program)).unwrap();
        std::fs::write(folder.path().join(format!("{i}.in")), sample[0].iter().map(|&v| v as u8).collect::<Vec<u8>>()).unwrap();
        files.push((name, program, sample[0].clone()));
    }
    let python = root().join(".runtime/python/bin/python");
    if !python.is_file() {
        eprintln!("skipped: LiteRT is not here; `cargo xtask setup --runtimes` installs it");
        return;
    }
    let output = Command::new(python).arg("-c").arg(LITERT).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (i, (name, program, sample)) in files.iter().enumerate() {
        let answer = std::fs::read(folder.path().join(format!("{i}.out"))).unwrap();
        let wanted = run(program, std::slice::from_ref(sample), Rounding::Float).unwrap().remove(0);
        assert_eq!(answer.len(), wanted.len(), "{name}");
        let off = answer.iter().zip(&wanted).map(|(&a, &w)| (i32::from(a as i8) - i32::from(w)).abs()).max().unwrap_or(0);
        assert!(off <= 1, "{name}: LiteRT is {off} steps off");
    }
}

/// Names of layers and of the graph reach C as comments and nothing else: this one would end a comment and begin a program.
#[test]
fn hostile_names_stay_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path());
    let hostile = "*\\ */ int oops = system(\"touch oops\"); /\\* ??/\n#error here";
    let mut float = operators().swap_remove(4).1;
    float.name = hostile.into();
    for node in &mut float.graph.nodes {
        node.name = format!("{hostile}{}", node.name);
    }
    let model = apply(&parse::<QuantizeConfig>("{ samples: 64 }"), float, &Context::alone(&data, &TFLITE)).unwrap();
    let program = lower(&model).unwrap();
    let sample = integers(&program, std::slice::from_ref(&samples(&data, 1)[0])).unwrap();
    for (file, content) in &c::source(&program, &tflite(&program), &sample, None).unwrap().files {
        std::fs::write(folder.path().join(file), content).unwrap();
        let text = String::from_utf8_lossy(content);
        assert!(!text.contains("system(") && !text.contains("#error"), "{file}");
    }
    if let Some(answer) = c::answers_its_test(folder.path()) {
        answer.unwrap();
    }
    assert!(!folder.path().join("oops").exists());
}
