//! Models with a state, whose samples are sequences, and models that take one sample at a time: what they answer, a whole run, and what does not fit.

use std::collections::BTreeMap;
use std::path::Path;

use sinter_calibrate::{Wanted, gather};
use sinter_exec::Runner;
use sinter_export::OnnxRuntime;
use sinter_fixtures::protos::{file, floats, ints, longs, node, numbers, typed};
use sinter_fixtures::{normal, only_run, parse, sinter, write_arrays};
use sinter_model::{Mode, Model};
use sinter_onnx::proto::GraphProto;
use sinter_onnx::{Options, load};
use sinter_report::RunRecord;
use tch::{Device, Kind, Tensor};

const WIDE: i64 = 6;
const STEPS: i64 = 5;

/// `hn = tanh(x W + h U)`, `y = hn V`: the state has its batch on the second axis, as recurrent layers have.
fn recurrent(batch: &str) -> Vec<u8> {
    let graph = GraphProto {
        node: vec![
            node("MatMul", &["x", "w"], "m", vec![]),
            node("Add", &["m", "c"], "a", vec![]),
            node("Squeeze", &["h", "front"], "flat", vec![]),
            node("MatMul", &["flat", "u"], "b", vec![]),
            node("Add", &["a", "b"], "sum", vec![]),
            node("Tanh", &["sum"], "next", vec![]),
            node("Unsqueeze", &["next", "front"], "hn", vec![]),
            node("MatMul", &["next", "v"], "y", vec![]),
        ],
        initializer: vec![
            longs("front", &[0]),
            floats("w", &[4, WIDE], &numbers(4 * WIDE, 0.7)),
            floats("c", &[WIDE], &numbers(WIDE, 0.5)),
            floats("u", &[WIDE, WIDE], &numbers(WIDE * WIDE, 0.6)),
            floats("v", &[WIDE, 2], &numbers(WIDE * 2, 1.0)),
        ],
        input: vec![typed("x", 1, &[batch, "4"]), typed("h", 1, &["1", batch, "6"])],
        output: vec![typed("y", 1, &[batch, "2"]), typed("hn", 1, &["1", batch, "6"])],
        ..GraphProto::default()
    };
    file(graph)
}

fn with_state() -> Options {
    Options { state: BTreeMap::from([("h".to_string(), "hn".to_string())]), ..Options::default() }
}

fn read(folder: &Path, bytes: &[u8], options: &Options) -> Model {
    let path = folder.join("m.onnx");
    std::fs::write(&path, bytes).unwrap();
    load(&path, options).unwrap()
}

/// ONNX Runtime step by step, and its last state.
fn by_hand(file: &Path, x: &Tensor, state: Tensor) -> (Tensor, Tensor) {
    let mut runtime = OnnxRuntime::open(file).unwrap();
    let (mut state, mut all) = (state, Vec::new());
    for step in 0..STEPS {
        let mut outputs = runtime.run_all(&[x.select(1, step), state]).unwrap();
        state = outputs.swap_remove(1);
        all.push(outputs.swap_remove(0));
    }
    (Tensor::stack(&all, 1), state)
}

fn near(a: &Tensor, b: &Tensor) {
    assert_eq!(a.size(), b.size());
    assert!(a.allclose(b, 1e-5, 1e-6, false));
}

#[test]
fn a_sequence_runs_step_by_step_with_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let model = read(folder.path(), &recurrent("n"), &with_state());
    let (path, x) = (folder.path().join("m.onnx"), normal(3, &[3, STEPS, 4]));
    let (y, last) = by_hand(&path, &x, Tensor::zeros([1, 3, WIDE], (Kind::Float, Device::Cpu)));
    let runner = Runner::new(&model).unwrap();
    let ours = tch::no_grad(|| runner.run(&[x.shallow_clone()], Mode::Predict)).unwrap();
    near(&ours[0], &y);
    near(&ours[1], &last);
    // Begun elsewhere: data has the samples in front.
    let start = normal(3, &[3, 1, WIDE]);
    let (y, _) = by_hand(&path, &x, start.transpose(0, 1));
    near(&tch::no_grad(|| runner.run(&[x.shallow_clone(), start], Mode::Predict)).unwrap()[0], &y);
    // The same through the runtime's own door.
    let theirs = OnnxRuntime::open(&path).unwrap().answer(&model.graph, &[x.shallow_clone()]).unwrap();
    near(&theirs[0], &ours[0]);
    // Gradients flow back through the steps: the weight is shared, and an early step counts.
    let early = x.detach().set_requires_grad(true);
    let output = runner.run(&[early.shallow_clone()], Mode::Train).unwrap().swap_remove(0);
    output.select(1, STEPS - 1).sum(Kind::Float).backward();
    assert!(early.grad().select(1, 0).abs().max().double_value(&[]) > 0.0);
}

#[test]
fn a_model_of_one_sample_gets_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let x = normal(3, &[3, STEPS, 4]);
    // A batch that is fixed, with a state.
    let model = read(folder.path(), &recurrent("1"), &with_state());
    let ours = tch::no_grad(|| Runner::new(&model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap();
    for sample in 0..3 {
        let start = Tensor::zeros([1, 1, WIDE], (Kind::Float, Device::Cpu));
        let (y, _) = by_hand(&folder.path().join("m.onnx"), &x.narrow(0, sample, 1), start);
        near(&ours[0].narrow(0, sample, 1), &y);
    }
    // No axis of samples at all: a cloud of points, and the mean of what a layer makes of them.
    let graph = GraphProto {
        node: vec![node("MatMul", &["x", "w"], "m", vec![]), node("ReduceMean", &["m"], "y", vec![ints("axes", &[0])])],
        initializer: vec![floats("w", &[4, 3], &numbers(12, 1.0))],
        input: vec![typed("x", 1, &["points", "4"])],
        output: vec![typed("y", 1, &["1", "3"])],
        ..GraphProto::default()
    };
    let options = Options { shapes: BTreeMap::from([(None, vec![STEPS, 4])]), ..Options::default() };
    let model = read(folder.path(), &file(graph), &options);
    let ours = tch::no_grad(|| Runner::new(&model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap();
    assert_eq!(ours[0].size(), [3, 1, 3]);
    let mut runtime = OnnxRuntime::open(&folder.path().join("m.onnx")).unwrap();
    for sample in 0..3 {
        near(&ours[0].select(0, sample), &runtime.run(&[x.select(0, sample)]).unwrap());
    }
}

fn write(folder: &Path, batch: &str, model: &str, samples: &[i64]) {
    std::fs::write(folder.join("m.onnx"), recurrent(batch)).unwrap();
    write_arrays(&folder.join("d.npz"), &[("x", &normal(3, samples))]);
    std::fs::write(folder.join("data.yaml"), "name: d\nsource: { numpy: { path: d.npz } }\n").unwrap();
    let text = format!(
        "name: s\nmodel: {{ onnx: m.onnx{model} }}\ndata: data.yaml\nstages:\n  - quantize: {{}}\nexport: [packed, onnx]\n"
    );
    std::fs::write(folder.join("s.yaml"), text).unwrap();
}

/// Statistics are of each step once: a mean of ones is one, however many steps there are.
#[test]
fn calibration_counts_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let model = read(folder.path(), &recurrent("n"), &with_state());
    let ones = Tensor::ones([70, STEPS, 4], (Kind::Float, Device::Cpu));
    write_arrays(&folder.path().join("d.npz"), &[("x", &ones)]);
    let mut config: sinter_data::DataConfig = parse("name: d\nsource: { numpy: { path: d.npz } }\n");
    config.rebase(folder.path());
    let mut data = sinter_data::Dataset::open(&config).unwrap();
    let inputs: Vec<_> = model.graph.inputs.iter().map(|i| (i.name.clone(), i.element)).collect();
    data.bind(&inputs, &model.graph.state.keys().cloned().collect()).unwrap();
    let first: Vec<_> = model.layers().into_iter().filter(|l| model.graph.nodes[l.node].inputs[0] == "x").collect();
    let wanted = Wanted { means: first.clone(), ..Wanted::default() };
    let found = gather(&model, &wanted, &data.train, &|_, _, _| {}).unwrap();
    assert_eq!(Vec::<f64>::try_from(&found.means[&first[0].weight]).unwrap(), [1.0; 4]);
}

#[test]
fn sequences_run_from_data_to_file() {
    for batch in ["n", "1"] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), batch, ", state: { h: hn }", &[60, STEPS, 4]);
        let done = sinter(folder.path(), &["run", "s.yaml"]);
        assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let record = RunRecord::read(&only_run(folder.path(), "s")).unwrap();
        assert!(record.last().unwrap().value > 0.99, "{:?}", record.last());
        let measured = record.measured.iter().find(|m| m.artifact.ends_with("model.onnx")).unwrap();
        assert!(measured.value.is_some_and(|v| (v - measured.simulated).abs() < 1e-3), "{measured:?}");
        assert!(measured.latency_median.is_some() && measured.note.is_none(), "{measured:?}");
        // The file keeps its state, for whoever runs it step by step.
        let written = only_run(folder.path(), "s").join("artifacts/model.onnx");
        let model = load(&written, &Options { state: with_state().state, ..Options::default() }).unwrap();
        assert_eq!(model.graph.inputs.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["x", "h"]);
    }
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    let cases = [
        (
            ", state: { g: hn }",
            &[9, STEPS, 4][..],
            "tensor `g`: the model has no such input to be a state; it has x, h",
            "s.yaml:2",
        ),
        (
            ", state: { h: gn }",
            &[9, STEPS, 4],
            "tensor `gn`: the model has no such output to be a state; it has y, hn",
            "s.yaml:2",
        ),
        (
            ", state: { h: y }",
            &[9, STEPS, 4],
            "output `y` is [1, 2], which can't be the next value of a state that is [1, 1, 6]",
            "s.yaml:2",
        ),
        (", state: { h: hn, x: y }", &[9, STEPS, 4], "every input is a state", "s.yaml:2"),
        (", state: { h: hn }", &[9, 4], "takes sequences: the first axis of a sample is that of its steps", "s.yaml:2"),
        (", state: { h: hn }", &[9, STEPS, 5], "the model's input `x` is", "s.yaml:2"),
        ("", &[9, 4], "the model has 2 inputs (x, h), and the data gives one array", "s.yaml:2"),
        (", constants: { k: 1 }", &[9, 4], "the model has no such input to be constant", "s.yaml:2"),
        (", constants: { h: [1, 2] }", &[9, 4], "2 numbers are given for it", "s.yaml:2"),
        (", constants: { h: sixteen }", &[9, 4], "expected a number, as in `16000`, or a list of numbers", "s.yaml:2"),
        (", constants: { h: .nan }", &[9, 4], "it takes finite numbers, and NaN is given for it", "s.yaml:2"),
    ];
    for (model, samples, wanted, place) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "n", model, samples);
        let done = sinter(folder.path(), &["check", "s.yaml"]);
        let said = String::from_utf8_lossy(&done.stderr).replace("\n  │ ", " ");
        assert!(done.status.code() == Some(2) && said.contains(wanted) && said.contains(place), "{model} {samples:?}: {said}");
    }
}
