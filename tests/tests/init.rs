//! First pipelines: what is found out by trying, and that what is written can be run.

use std::path::Path;
use std::process::Output;

use sinter_fixtures::protos::{file, floats, node, numbers, typed};
use sinter_fixtures::{only_run, sinter, uniform, write_arrays, write_bars, write_language};
use sinter_onnx::proto::{GraphProto, NodeProto, TensorProto};
use sinter_report::RunRecord;
use tch::{Kind, Tensor};

fn model(folder: &Path, name: &str, dims: [&[&str]; 2], nodes: Vec<NodeProto>, stored: Vec<TensorProto>) {
    let (input, output) = (vec![typed("x", 1, dims[0])], vec![typed("y", 1, dims[1])]);
    let graph = GraphProto { node: nodes, initializer: stored, input, output, ..GraphProto::default() };
    std::fs::write(folder.join(name), file(graph)).unwrap();
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Begins, and gives back what was said; the file passes `check`.
fn begun(folder: &Path, args: &[&str], file: &str) -> String {
    let output = sinter(folder, &[&["init"], args].concat());
    let said = told(&output);
    assert!(output.status.success(), "{args:?}: {said}");
    let check = sinter(folder, &["check", file]);
    assert!(check.status.success(), "{args:?}: {}", told(&check));
    said
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// A model says whether an image is bright: brighter than `middle`, in the scale that it was made for.
fn bright(folder: &Path, name: &str, middle: f32) {
    let weights: Vec<f32> = (0..32).map(|i| if i % 2 == 1 { 1.0 / 16.0 } else { 0.0 }).collect();
    let nodes = vec![node("Flatten", &["x"], "f", vec![]), node("Gemm", &["f", "w", "b"], "y", vec![])];
    let stored = vec![floats("w", &[16, 2], &weights), floats("b", &[2], &[0.0, -middle])];
    model(folder, name, [&["n", "1", "4", "4"], &["n", "2"]], nodes, stored);
}

/// Only one way of scaling values is the one that a model was trained with.
#[test]
fn the_scale_of_training_is_found() {
    let folder = tempfile::tempdir().unwrap();
    // From dark to bright, so that thresholds tell the scales apart.
    let level = Tensor::arange(400, (Kind::Float, tch::Device::Cpu)).reshape([400, 1, 1, 1]) * (255.0 / 400.0);
    let x = (level + uniform(1, &[400, 1, 4, 4]) * 10.0 - 5.0).clamp(0.0, 255.0);
    let mean = x.mean_dim(&[1i64, 2, 3][..], false, Kind::Float);
    for (name, middle, threshold, wanted) in [
        ("raw", 100.0, 100.0, "{ divide: 1 }"),
        ("unit", 0.3, 76.5, "{ divide: 255 }"),
        ("sign", 0.25, 159.4, "{ divide: 255, mean: [0.5], std: [0.5] }"),
    ] {
        bright(folder.path(), &format!("{name}.onnx"), middle);
        write_arrays(&folder.path().join("d.npz"), &[("x", &x), ("y", &mean.gt(threshold).to_kind(Kind::Int64))]);
        let said = begun(folder.path(), &[&format!("{name}.onnx"), "--data", "d.npz"], &format!("{name}.yaml"));
        assert!(said.contains("training samples"), "{said}");
        let data = read(folder.path(), &format!("{name}.data.yaml"));
        assert!(data.contains(&format!("normalize: {wanted}\n")), "{name}: {data}");
    }
    // Where nothing says how, nothing is made up.
    write_arrays(&folder.path().join("bare.npz"), &[("x", &x)]);
    let said = begun(folder.path(), &["raw.onnx", "--data", "bare.npz", "--output", "bare.yaml"], "bare.yaml");
    assert!(
        said.contains("can't be told without labels") && !read(folder.path(), "bare.data.yaml").contains("normalize"),
        "{said}"
    );
}

/// What the model is asked to do follows from its output and the labels.
#[test]
fn tasks_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let x = uniform(2, &[120, 6]);
    let dense = |outputs: i64| {
        let size = outputs.to_string();
        let stored = vec![floats("w", &[6, outputs], &numbers(6 * outputs, 1.0))];
        model(at, "m.onnx", [&["n", "6"], &["n", &size]], vec![node("MatMul", &["x", "w"], "y", vec![])], stored);
    };
    let cases: [(&str, i64, Tensor, &str); 6] = [
        ("classify", 3, Tensor::arange(120, (Kind::Int64, tch::Device::Cpu)).remainder(3), "labels"),
        ("embed", 16, Tensor::arange(120, (Kind::Int64, tch::Device::Cpu)).remainder(6), "y"),
        ("regress", 2, uniform(3, &[120, 2]) * 4.0, "target"),
        ("multi-label", 3, uniform(4, &[120, 3]).round(), "y"),
        ("classify", 3, Tensor::arange(120, (Kind::Int64, tch::Device::Cpu)).remainder(3).to_kind(Kind::Float), "Label"),
        ("multi-label", 1, Tensor::arange(120, (Kind::Int64, tch::Device::Cpu)).remainder(2), "y"),
    ];
    for (task, outputs, labels, name) in cases {
        dense(outputs);
        write_arrays(&at.join("d.npz"), &[("values", &x), (name, &labels)]);
        let said = begun(at, &["m.onnx", "--data", "d.npz", "--force"], "m.yaml");
        let data = read(at, "m.data.yaml");
        assert!(data.contains(&format!("task: {task}\n")), "{task}: {said}{data}");
        assert!(data.contains("samples: values") && (name == "y" || data.contains("labels: ")), "{data}");
    }
    // An array that is called nothing of the kind is no label, and is told.
    dense(3);
    let number = Tensor::arange(120, (Kind::Int64, tch::Device::Cpu));
    write_arrays(
        &at.join("d.npz"),
        &[
            ("values", &(x.shallow_clone() * 255.0).to_kind(Kind::Uint8)),
            ("sample_id", &number),
            ("label", &number.remainder(3).to_kind(Kind::Float)),
        ],
    );
    let said = begun(at, &["m.onnx", "--data", "d.npz", "--force"], "m.yaml");
    let data = read(at, "m.data.yaml");
    assert!(data.contains("samples: values, labels: label") && said.contains("nothing reads sample_id"), "{said}{data}");
    // Axes are no labels.
    let rows = (0..90).map(|i| format!("{i},1,2,3,4,5,{}", i % 3)).collect::<Vec<_>>().join("\n");
    std::fs::write(at.join("axes.csv"), format!("x,y,z,a,b,c,label\n{rows}\n")).unwrap();
    begun(at, &["m.onnx", "--data", "axes.csv", "--force"], "m.yaml");
    assert!(read(at, "m.data.yaml").contains("label: label"));
    // Tables, whatever stands between their columns.
    dense(3);
    let rows = (0..90).map(|i| format!("{};1;2;3;4;5;{}", i % 7, ["a", "b", "c"][i % 3])).collect::<Vec<_>>().join("\n");
    std::fs::write(at.join("t.csv"), format!("p;q;r;s;t;u;kind\n{rows}\n")).unwrap();
    begun(at, &["m.onnx", "--data", "t.csv", "--force"], "m.yaml");
    assert!(read(at, "m.data.yaml").contains("label: kind, delimiter: \";\""));
    // Language models.
    write_language(at);
    begun(at, &["model", "--data", "train.txt", "--output", "lm.yaml"], "lm.yaml");
    assert!(read(at, "lm.yaml").contains("int4/group:32") && read(at, "lm.data.yaml").contains("tokens: 256"));
}

/// An input that no array is for is a state, where an output is like it, or a number that is always the same.
#[test]
fn states_and_constants_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let nodes = vec![
        node("MatMul", &["x", "w"], "m", vec![]),
        node("Add", &["m", "h"], "a", vec![]),
        node("Mul", &["a", "gain"], "y", vec![]),
        node("Tanh", &["a"], "hn", vec![]),
    ];
    let graph = GraphProto {
        node: nodes,
        initializer: vec![floats("w", &[4, 3], &numbers(12, 1.0))],
        input: vec![typed("x", 1, &["n", "4"]), typed("h", 1, &["n", "3"]), typed("gain", 1, &["1"])],
        output: vec![typed("y", 1, &["n", "3"]), typed("hn", 1, &["n", "3"])],
        ..GraphProto::default()
    };
    std::fs::write(at.join("m.onnx"), file(graph)).unwrap();
    let labels = uniform(3, &[60, 5, 3]) * 3.0;
    write_arrays(&at.join("d.npz"), &[("x", &uniform(2, &[60, 5, 4])), ("y", &labels)]);
    let said = begun(at, &["m.onnx", "--data", "d.npz"], "m.yaml");
    assert!(read(at, "m.yaml").contains("{ onnx: m.onnx, constants: { gain: 1 }, state: { h: hn } }"), "{said}");
}

/// Every goal, with a target and without, from a model that was never trained to a run that is done.
#[test]
fn what_is_written_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("bars")).unwrap();
    write_bars(&at.join("bars"), 64, 32);
    for (goal, target) in [("smallest", None), ("fastest", Some("cortex-m4")), ("accurate", Some("onnxruntime-x86"))] {
        let file = format!("{goal}.yaml");
        let mut args = vec!["lenet-300-100", "--data", "bars", "--goal", goal, "--output", &file];
        args.extend(target.iter().flat_map(|t| ["--target", t]));
        begun(at, &args, &file);
        let epochs = ["stages.train.epochs=1", "stages.2.finetune.epochs=1", "stages.3.finetune.epochs=1"];
        let short: Vec<&str> = match goal {
            "smallest" => epochs.iter().flat_map(|e| ["--set", e]).collect(),
            "fastest" => epochs[..2].iter().flat_map(|e| ["--set", e]).collect(),
            _ => vec!["--set", epochs[0]],
        };
        let run = sinter(at, &[&["run", &file, "--quiet"], &short[..]].concat());
        assert!(run.status.success(), "{goal}: {}", told(&run));
        let record = RunRecord::read(&only_run(at, goal)).unwrap();
        assert!(record.exported().is_some(), "{goal}");
        let text = read(at, &file);
        assert_eq!(text.contains("tflite"), goal == "fastest", "{text}");
    }
}

#[test]
fn nothing_is_lost_and_faults_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    bright(at, "m.onnx", 100.0);
    let x = uniform(1, &[40, 1, 4, 4]);
    write_arrays(&at.join("d.npz"), &[("x", &x)]);
    begun(at, &["m.onnx", "--data", "d.npz"], "m.yaml");
    std::fs::write(at.join("m.yaml"), "mine").unwrap();
    std::fs::write(at.join("junk.npz"), "junk").unwrap();
    write_arrays(&at.join("flat.npz"), &[("x", &uniform(1, &[40, 7]))]);
    for (args, says) in [
        (&["m.onnx", "--data", "d.npz"][..], "--force"),
        (&["m.onnx", "--output", "n.yaml"], "--data PATH"),
        (&["no.onnx", "--data", "d.npz"], "lenet5"),
        (&["m.onnx", "--data", "no.npz", "--output", "n.yaml"], "there is no no.npz"),
        (&["m.onnx", "--data", "no.yaml", "--output", "n.yaml"], "there is no no.yaml"),
        (&["m.onnx", "--data", "junk.npz", "--output", "n.yaml"], "junk.npz"),
        (&["m.onnx", "--data", "m.onnx", "--output", "n.yaml"], "none of the forms"),
        (&["m.onnx", "--data", "flat.npz", "--output", "n.yaml"], "samples of shape [7]"),
        (&["m.onnx", "--data", "d.npz", "--target", "cortex-m99", "--output", "n.yaml"], "cortex-m4"),
        (&["m.onnx", "--data", ".", "--output", "n.yaml"], "folder of its name"),
        (&["junk.npz", "--data", "d.npz", "--output", "n.yaml"], "not a complete ONNX file"),
    ] {
        let output = sinter(at, &[&["init"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", told(&output));
        assert!(told(&output).contains(says), "{args:?}: {}", told(&output));
        assert!(!at.join("n.yaml").exists() && read(at, "m.yaml") == "mine", "{args:?}");
    }
    // Names are names, whatever stands in them.
    let odd = "a #: {b}\n\"x\": 1 ${Y}";
    std::fs::create_dir(at.join(odd)).unwrap();
    std::fs::copy(at.join("m.onnx"), at.join(odd).join("m.onnx")).unwrap();
    std::fs::copy(at.join("d.npz"), at.join(odd).join("d.npz")).unwrap();
    let [m, d] = ["m.onnx", "d.npz"].map(|name| format!("{odd}/{name}"));
    let output = sinter(at, &["init", &m, "--data", &d, "--output", "odd.yaml"]);
    assert!(output.status.success(), "{}", told(&output));
}
