//! If, Loop, Scan and functions, resolved on reading: what the model then answers is what ONNX Runtime makes of the file as it was.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use sinter_exec::Runner;
use sinter_export::OnnxRuntime;
use sinter_fixtures::control::{backwards, body, branches, by_data, by_shape, calls, scalar, sides, three_times, whole};
use sinter_fixtures::normal;
use sinter_fixtures::protos::{file, floats, graph, int, longs, node, numbers, typed};
use sinter_model::Mode;
use sinter_onnx::proto::{NodeProto, TensorProto};
use sinter_onnx::{Loaded, OnnxError, Options, Storage, read, save};
use tch::Tensor;

/// Reads a file, and compares with ONNX Runtime what the model, and the file that is written of it, answer to two batches.
fn as_in_onnx_runtime(what: &str, bytes: &[u8], options: &Options, given: &[(&str, Tensor)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before.onnx"), folder.path().join("after.onnx"));
    std::fs::write(&before, bytes).unwrap();
    let loaded = read(&before, options).unwrap_or_else(|e| panic!("{what}: {e}"));
    save(&loaded.model, &after, Storage::Inside).unwrap();
    let (mut theirs, mut ours) = (OnnxRuntime::open(&before).unwrap(), OnnxRuntime::open(&after).unwrap());
    for batch in [1, 3] {
        let x = normal(batch as u64, &[batch, 4]);
        let all: Vec<Tensor> = [x.shallow_clone()].into_iter().chain(given.iter().map(|(_, t)| t.shallow_clone())).collect();
        let wanted = theirs.run_all(&all).unwrap();
        let taken: Vec<Tensor> = loaded
            .model
            .graph
            .inputs
            .iter()
            .map(|info| given.iter().find(|(name, _)| *name == info.name).map_or(x.shallow_clone(), |(_, t)| t.shallow_clone()))
            .collect();
        let simulated = tch::no_grad(|| Runner::new(&loaded.model).unwrap().run(&taken, Mode::Predict)).unwrap();
        for answers in [simulated, ours.run_all(&taken).unwrap()] {
            for (answer, wanted) in answers.iter().zip(&wanted) {
                assert_eq!(answer.size(), wanted.size(), "{what}, batch {batch}");
                assert!(answer.allclose(wanted, 1e-5, 1e-6, false), "{what}, batch {batch}");
            }
        }
    }
    loaded
}

#[test]
fn a_branch_that_is_known_takes_its_place() {
    let (one, two) = sides();
    let loaded = as_in_onnx_runtime("shape", &file(by_shape()), &Options::default(), &[]);
    assert_eq!(loaded.model.graph.nodes.iter().map(|n| n.kind()).collect::<Vec<_>>(), ["MatMul"]);
    assert!(loaded.notes.is_empty());
    // By an input that is always the same: the sample rate of a voice detector.
    let mut nodes = vec![node("Equal", &["rate", "sixteen"], "is", vec![]), branches("is", one, two)];
    nodes[0].name.clear();
    let mut with_rate = whole(nodes, vec![TensorProto { dims: vec![], ..longs("sixteen", &[16000]) }]);
    with_rate.input.push(typed("rate", 7, &[]));
    for rate in [16000i64, 8000] {
        let options = Options { constants: BTreeMap::from([("rate".to_string(), vec![rate as f64])]), ..Options::default() };
        let loaded = as_in_onnx_runtime("rate", &file(with_rate.clone()), &options, &[("rate", Tensor::from(rate))]);
        assert_eq!(loaded.model.graph.inputs.len(), 1);
        assert!(loaded.notes[0].contains("input `rate` is always"), "{:?}", loaded.notes);
    }
}

/// An input of whole numbers is not cut to one in silence.
#[test]
fn constants_are_of_the_type_of_their_input() {
    let mut graph = by_shape();
    graph.input.push(typed("rate", 7, &[]));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, file(graph)).unwrap();
    let options = Options { constants: BTreeMap::from([("rate".to_string(), vec![1.5])]), ..Options::default() };
    let said = read(&path, &options).unwrap_err().to_string();
    assert!(said.contains("tensor `rate`: it takes whole numbers, and 1.5 is given for it"), "{said}");
}

#[test]
fn a_branch_that_the_data_decides_on_is_chosen_from_two() {
    let (one, two) = sides();
    let loaded = as_in_onnx_runtime("data", &file(by_data(one.clone(), two)), &Options::default(), &[]);
    assert!(loaded.notes[0].contains("both branches of `y` (If)"), "{:?}", loaded.notes);
    // Where results have two shapes nothing can choose.
    let narrow =
        body(&[], vec![node("MatMul", &["x", "v"], "u", vec![])], vec![floats("v", &[4, 2], &numbers(8, 1.0))], &[("u", 1)]);
    let said = refusal(&file(by_data(one, narrow)));
    assert!(said.contains("If `y`: its condition `is` depends on the data, and its branches give `y` other shapes"), "{said}");
}

/// What follows from the shape of something that the data counts is not known, and one choice for a batch is none for each sample.
#[test]
fn what_the_data_counts_is_not_known() {
    let (one, two) = sides();
    let nodes = |batch: i64| {
        let counted = vec![
            node("NonZero", &["x"], "places", vec![]),
            node("Shape", &["places"], "shape", vec![]),
            node("Gather", &["shape", "last"], "count", vec![]),
            node("Greater", &["count", "two"], "is", vec![]),
            node("Squeeze", &["is"], "truth", vec![]),
            branches("truth", one.clone(), two.clone()),
        ];
        let mut all = whole(counted, vec![longs("last", &[1]), longs("two", &[2])]);
        if batch == 1 {
            all.input = vec![typed("x", 1, &["1", "4"])];
            all.output = vec![typed("y", 1, &["1", "3"])];
        }
        file(all)
    };
    let loaded = as_in_onnx_runtime("counted", &nodes(-1), &Options::default(), &[]);
    assert!(loaded.notes[0].contains("both branches"), "{:?}", loaded.notes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, nodes(1)).unwrap();
    assert!(!read(&path, &Options::default()).unwrap().model.graph.inputs[0].is_batched());
}

/// A name that an unrolled step gets is none that a graph within the body uses.
#[test]
fn names_of_steps_are_not_those_of_branches() {
    let inner =
        |value: f32| body(&[], vec![node("Mul", &["h", "k"], "next_2", vec![])], vec![scalar("k", value)], &[("next_2", 1)]);
    let steps = body(
        &[("i", 7), ("goes_on", 9), ("h", 1)],
        vec![
            node("Tanh", &["h"], "next", vec![]),
            node("ReduceSum", &["next", "axes"], "sum", vec![int("keepdims", 0)]),
            node("Greater", &["sum", "zero"], "is", vec![]),
            node("If", &["is"], "other", vec![graph("then_branch", inner(2.0)), graph("else_branch", inner(-1.0))]),
            node("Add", &["next", "other"], "all", vec![]),
            node("Identity", &["goes_on"], "still", vec![]),
        ],
        vec![],
        &[("still", 9), ("all", 1)],
    );
    let nodes = vec![node("Loop", &["count", "", "x"], "y", vec![graph("body", steps)])];
    let stored = vec![TensorProto { dims: vec![], ..longs("count", &[3]) }, longs("axes", &[0, 1]), scalar("zero", 0.0)];
    as_in_onnx_runtime("captured", &file(whole(nodes, stored)), &Options::default(), &[]);
}

fn refusal(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    std::fs::write(&path, bytes).unwrap();
    read(&path, &Options::default()).unwrap_err().to_string()
}

#[test]
fn loops_that_can_be_counted_are_unrolled() {
    let loaded = as_in_onnx_runtime("loop", &file(three_times(3)), &Options::default(), &[]);
    // The weight is stored once, however often it is used.
    assert_eq!(loaded.model.graph.nodes.iter().filter(|n| n.kind() == "MatMul").count(), 3);
    assert_eq!(loaded.model.layers().len(), 1);
    as_in_onnx_runtime("scan", &file(backwards()), &Options::default(), &[]);
}

#[test]
fn loops_that_the_data_decides_on_are_refused_by_name() {
    let mut counted = three_times(3);
    counted.initializer.remove(0);
    counted.input.push(typed("count", 7, &[]));
    let said = refusal(&file(counted.clone()));
    assert!(said.contains("Loop `last`: `count` depends on the data"), "{said}");
    // Told beforehand it can be counted.
    let options = Options { constants: BTreeMap::from([("count".to_string(), vec![2.0])]), ..Options::default() };
    as_in_onnx_runtime("told", &file(counted), &options, &[("count", Tensor::from(2i64))]);
    // A loop that would take all memory to be unrolled.
    let said = refusal(&file(three_times(1 << 40)));
    assert!(said.contains("has more than 10000 steps"), "{said}");
}

#[test]
fn functions_take_the_place_of_their_calls() {
    let model = calls();
    let loaded = as_in_onnx_runtime("functions", &model.encode_to_vec(), &Options::default(), &[]);
    let names: Vec<&str> = loaded.model.graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["first/m", "first/r/l", "y/m", "y/r/l"]);
    // One that calls itself never ends.
    let mut endless = model;
    endless.functions[1].node = vec![NodeProto { domain: "house".into(), ..node("Bent", &["m"], "l", vec![]) }];
    let said = refusal(&endless.encode_to_vec());
    assert!(said.contains("lie in one another"), "{said}");
}

/// Files of the wild: what follows from nothing, and bodies that lack something.
#[test]
fn broken_control_flow_is_told() {
    let (one, _) = sides();
    let cases: [(NodeProto, &str); 4] = [
        (node("If", &["nothing"], "y", vec![graph("then_branch", one.clone()), graph("else_branch", one.clone())]), "y"),
        (node("If", &[], "y", vec![graph("then_branch", one.clone()), graph("else_branch", one.clone())]), "no condition"),
        (node("If", &["x"], "y", vec![graph("then_branch", one.clone())]), "no `else_branch`"),
        (node("Scan", &["x"], "y", vec![int("num_scan_inputs", 9), graph("body", one)]), "fewer inputs than it scans"),
    ];
    for (node, wanted) in cases {
        let said = refusal(&file(whole(vec![node], vec![])));
        assert!(said.contains(wanted), "{said}");
    }
    let error = |path: &Path| matches!(read(path, &Options::default()), Err(OnnxError::Read { .. }));
    assert!(error(Path::new("nowhere.onnx")));
}
