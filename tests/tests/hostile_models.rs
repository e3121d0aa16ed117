//! ONNX files that are no models, or that ask for what nobody should give: each is refused with a reason, and none takes memory, time or the program
//! with it.

use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use sinter_fixtures::protos::{ints, longs, value};
use sinter_model::panics_caught;
use sinter_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetId, StringStringEntry, TensorProto};
use sinter_onnx::{Options, load};

fn node(kind: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect();
    NodeProto { op_type: kind.into(), input: names(inputs), output: names(outputs), attribute, ..NodeProto::default() }
}

fn floats(name: &str, dims: &[i64], count: usize) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: Some(vec![0; 4 * count]),
        ..TensorProto::default()
    }
}

fn model(input: &[i64], initializer: Vec<TensorProto>, node: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        node,
        initializer,
        input: vec![value("x", input)],
        output: vec![value("y", &[-1, 1])],
        ..GraphProto::default()
    };
    let opset = OperatorSetId { domain: String::new(), version: 18 };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }
}

/// What is said of a model; empty where it is taken.
fn said(at: &Path, model: &ModelProto) -> String {
    std::fs::write(at.join("m.onnx"), model.encode_to_vec()).unwrap();
    let (started, caught) = (Instant::now(), panics_caught());
    let answer = load(&at.join("m.onnx"), &Options::default()).map_or_else(|e| e.to_string(), |_| String::new());
    assert!(started.elapsed() < Duration::from_secs(10), "{answer}: {:?}", started.elapsed());
    assert_eq!(panics_caught(), caught, "{answer}");
    answer
}

const HUGE: i64 = 1 << 40;

#[test]
fn sizes_that_nobody_has_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let grows = |kind: &str, by: &[i64]| model(&[-1, 4], vec![longs("s", by)], vec![node(kind, &["x", "s"], &["y"], vec![])]);
    let image = |kind: &str, attributes: Vec<AttributeProto>| {
        model(&[-1, 1, 4, 4], vec![floats("w", &[1, 1, 1, 1], 1)], vec![node(kind, &["x", "w"], &["y"], attributes)])
    };
    let with = |tensor: TensorProto| model(&[-1, 4], vec![tensor], vec![node("Add", &["x", "a"], &["y"], vec![])]);
    for (name, model, wanted) in [
        ("Expand", grows("Expand", &[HUGE, 4]), "--memory"),
        ("Tile", grows("Tile", &[HUGE, HUGE]), "--memory"),
        ("Pad", grows("Pad", &[0, 0, HUGE, HUGE]), "--memory"),
        ("steps of a convolution", image("Conv", vec![ints("strides", &[i64::MAX, 1])]), "at most"),
        ("pads of a convolution", image("Conv", vec![ints("pads", &[HUGE; 4])]), "at most"),
        ("a transposed convolution", image("ConvTranspose", vec![ints("strides", &[1 << 30; 2])]), "--memory"),
        ("an output shape", image("ConvTranspose", vec![ints("output_shape", &[1 << 31; 2])]), "--memory"),
        ("an input", model(&[-1, 1 << 20, 1 << 20], vec![], vec![node("Relu", &["x"], &["y"], vec![])]), "--memory"),
        ("a negative length", model(&[-1, -5], vec![], vec![node("Relu", &["x"], &["y"], vec![])]), "not possible"),
        ("a stored tensor", with(floats("a", &[1 << 60], 4)), "--memory"),
        ("one that overflows", with(floats("a", &[4, 1 << 32, 1 << 32], 4)), "--memory"),
        ("one below zero", with(floats("a", &[-4], 4)), "negative"),
        ("one cut short", with(floats("a", &[4], 3)), "its shape [4] wants 16"),
        (
            "parts without end",
            model(
                &[-1, 4],
                vec![],
                vec![node(
                    "Split",
                    &["x"],
                    &["y"],
                    vec![AttributeProto { name: "num_outputs".into(), r#type: 2, i: HUGE, ..AttributeProto::default() }],
                )],
            ),
            "can't be split",
        ),
    ] {
        let said = said(folder.path(), &model);
        assert!(said.contains(wanted), "{name}: {said}");
    }
}

#[test]
fn graphs_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let relu = |a: &str, b: &str| node("Relu", &[a], &[b], vec![]);
    let graph = |nodes: Vec<NodeProto>| model(&[-1, 4], vec![], nodes);
    for (name, model, wanted) in [
        ("a circle", graph(vec![relu("a", "b"), relu("b", "a"), node("Add", &["x", "a"], &["y"], vec![])]), "can never run"),
        ("a node that reads itself", graph(vec![node("Add", &["x", "y"], &["y"], vec![])]), "can never run"),
        ("a result twice", graph(vec![relu("x", "y"), relu("x", "y")]), "more than one"),
        ("a result that is the input", graph(vec![relu("x", "x"), relu("x", "y")]), "more than one"),
        (
            "a stored tensor twice",
            model(&[-1, 4], vec![floats("a", &[4], 4), floats("a", &[4], 4)], vec![node("Add", &["x", "a"], &["y"], vec![])]),
            "more than one",
        ),
        ("a product of one", model(&[-1, 4], vec![], vec![node("MatMul", &["x"], &["y"], vec![])]), "missing"),
        ("no result", graph(vec![node("Relu", &["x"], &[], vec![]), relu("x", "y")]), "has a name"),
        (
            "a text for a number",
            graph(vec![node(
                "Softmax",
                &["x"],
                &["y"],
                vec![AttributeProto { name: "axis".into(), r#type: 3, s: b"one".to_vec(), ..AttributeProto::default() }],
            )]),
            "should be an integer",
        ),
    ] {
        let said = said(folder.path(), &model);
        assert!(said.contains(wanted), "{name}: {said}");
    }
    // Long chains take time in proportion, in whatever order they stand.
    let name = |i: usize| if i == 0 { "x".to_string() } else { format!("v{i}") };
    let mut chain: Vec<NodeProto> = (0..3000).map(|i| relu(&name(i), &name(i + 1))).collect();
    chain.push(relu(&name(3000), "y"));
    assert_eq!(said(folder.path(), &graph(chain.clone())), "");
    chain.reverse();
    assert_eq!(said(folder.path(), &graph(chain)), "");
}

#[test]
fn external_data_stays_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("inside");
    std::fs::create_dir(&at).unwrap();
    std::fs::write(folder.path().join("secret"), [0; 64]).unwrap();
    std::fs::write(at.join("data.bin"), [0; 64]).unwrap();
    std::os::unix::fs::symlink("../secret", at.join("link")).unwrap();
    std::os::unix::fs::symlink("data.bin", at.join("near")).unwrap();
    let says = |location: &str, offset: &str| {
        let entry = |key: &str, value: &str| StringStringEntry { key: key.into(), value: value.into() };
        let external_data = vec![entry("location", location), entry("offset", offset)];
        let tensor = TensorProto {
            name: "a".into(),
            dims: vec![4],
            data_type: 1,
            data_location: 1,
            external_data,
            ..TensorProto::default()
        };
        said(&at, &model(&[-1, 4], vec![tensor], vec![node("Add", &["x", "a"], &["y"], vec![])]))
    };
    assert_eq!((says("data.bin", "16"), says("near", "0")), (String::new(), String::new()));
    let secret = folder.path().join("secret").display().to_string();
    for (location, offset, wanted) in [
        ("../secret", "0", "lies outside"),
        (secret.as_str(), "0", "lies outside"),
        ("link", "0", "leads outside"),
        ("/dev/zero", "0", "lies outside"),
        (".", "0", "is no file"),
        ("data.bin", "60", "has 64 bytes"),
        ("data.bin", "4611686018427387904", "has 64 bytes"),
        ("data.bin", "-1", "is not a number"),
        ("nowhere", "0", "external data"),
    ] {
        let said = says(location, offset);
        assert!(said.contains(wanted), "{location} at {offset}: {said}");
    }
}
