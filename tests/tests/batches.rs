//! Models whose files fix the batch at one: made free where each sample gets what it got alone, and left where it does not.

use std::path::Path;

use sinter_exec::Runner;
use sinter_export::OnnxRuntime;
use sinter_fixtures::normal;
use sinter_fixtures::protos::{file, floats, int, ints, longs, node, value};
use sinter_model::{Mode, Model};
use sinter_onnx::proto::{GraphProto, NodeProto, TensorProto};
use sinter_onnx::{Options, load};
use tch::Tensor;

struct Case {
    what: &'static str,
    shape: Vec<i64>,
    result: Vec<i64>,
    nodes: Vec<NodeProto>,
    stored: Vec<TensorProto>,
    freed: bool,
}

fn numbers(count: i64) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 5) % 23) as f32 / 23.0 - 0.4).collect()
}

fn matrix(name: &str, rows: i64, columns: i64) -> TensorProto {
    floats(name, &[rows, columns], &numbers(rows * columns))
}

fn cases() -> Vec<Case> {
    let case = |what, shape: &[i64], result: &[i64], nodes, stored, freed| Case {
        what,
        shape: shape.to_vec(),
        result: result.to_vec(),
        nodes,
        stored,
        freed,
    };
    let none = Vec::new;
    let flat = |target: &[i64]| {
        (
            vec![node("Reshape", &["x", "to"], "r", none()), node("MatMul", &["r", "w"], "y", none())],
            vec![longs("to", target), matrix("w", 12, 2)],
        )
    };
    let (nodes, stored) = flat(&[1, 12]);
    let (nodes_open, stored_open) = flat(&[1, -1]);
    let tokens = vec![
        node("Reshape", &["x", "rows"], "r", none()),
        node("MatMul", &["r", "w"], "m", none()),
        node("Reshape", &["m", "back"], "y", none()),
    ];
    let gates = |name: &str, wide: i64| floats(name, &[1, 12, wide], &numbers(12 * wide));
    let lstm = |states: f32| {
        let mut recurrent = node("LSTM", &["t", "w", "r", "b", "", "h", "c"], "o", vec![int("hidden_size", 3)]);
        recurrent.output = vec![String::new(), "h.last".into()];
        let nodes = vec![
            node("Transpose", &["x"], "t", vec![ints("perm", &[1, 0, 2])]),
            recurrent,
            node("Transpose", &["h.last"], "s", vec![ints("perm", &[1, 0, 2])]),
            node("Reshape", &["s", "to"], "y", none()),
        ];
        let state = |name: &str| floats(name, &[1, 1, 3], &[states; 3]);
        let stored =
            vec![gates("w", 4), gates("r", 3), floats("b", &[1, 24], &numbers(24)), state("h"), state("c"), longs("to", &[1, 3])];
        (nodes, stored)
    };
    let (nodes_zero, stored_zero) = lstm(0.0);
    let mixing = vec![
        node("ReduceMean", &["x"], "m", vec![ints("axes", &[0]), int("keepdims", 1)]),
        node("Sub", &["x", "m"], "y", none()),
    ];
    let moved = vec![node("Reshape", &["x", "to"], "y", none())];
    vec![
        case("a flattening", &[1, 3, 4], &[1, 2], nodes, stored, true),
        case("a flattening that is open", &[1, 3, 4], &[1, 2], nodes_open, stored_open, true),
        case(
            "tokens as rows",
            &[1, 5, 4],
            &[1, 5, 3],
            tokens,
            vec![longs("rows", &[5, 4]), longs("back", &[1, 5, 3]), matrix("w", 4, 3)],
            true,
        ),
        case("states of zeros", &[1, 5, 4], &[1, 3], nodes_zero, stored_zero, true),
        case("a mean over samples", &[1, 4], &[1, 4], mixing, vec![], false),
        case("an axis before the batch", &[1, 4], &[1, 1, 4], moved, vec![longs("to", &[1, 1, 4])], true),
    ]
}

fn write(path: &Path, case: &Case) {
    let graph = GraphProto {
        node: case.nodes.clone(),
        initializer: case.stored.clone(),
        input: vec![value("x", &case.shape)],
        output: vec![value("y", &case.result)],
        ..GraphProto::default()
    };
    std::fs::write(path, file(graph)).unwrap();
}

fn run(model: &Model, x: &Tensor) -> Tensor {
    tch::no_grad(|| Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0)
}

#[test]
fn a_batch_of_one_is_made_free_where_samples_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.onnx");
    for case in cases() {
        write(&path, &case);
        let model = load(&path, &Options::default()).unwrap_or_else(|e| panic!("{}: {e}", case.what));
        assert_eq!(model.graph.inputs[0].is_batched(), case.freed, "{}", case.what);
        if !case.freed {
            continue;
        }
        let shape = [&[3], &case.shape[1..]].concat();
        let x = normal(1, &shape);
        let together = run(&model, &x);
        let mut runtime = OnnxRuntime::open(&path).unwrap();
        for sample in 0..3 {
            let alone = runtime.run(&[x.narrow(0, sample, 1)]).unwrap();
            let off = (together.narrow(0, sample, 1) - alone).abs().max().double_value(&[]);
            assert!(off < 1e-4, "{}: sample {sample} is off by {off}", case.what);
        }
    }
}
