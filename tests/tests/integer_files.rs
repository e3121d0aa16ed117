//! Files of integer operators, as other tools write them: read, run beside ONNX Runtime, and certified.

use std::path::Path;

use prost::Message;
use sinter_certify::{Reference, absorb, certify};
use sinter_exec::Runner;
use sinter_export::OnnxRuntime;
use sinter_fixtures::normal;
use sinter_fixtures::protos::{float, floats, int, ints, value};
use sinter_model::{Mode, Model};
use sinter_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetId, TensorProto, TensorType, TypeProto, ValueInfoProto,
};
use sinter_onnx::{Options, load};
use tch::Tensor;

const MICROSOFT: &str = "com.microsoft";
/// Steps of the input and of the result.
const STEP: f32 = 2.0 / 255.0;
const OUT: f32 = 0.05;

/// One operator of integers over the quantized `x` of `[batch, 4, 6, 6]`, or of `[batch, 4]`.
struct Case {
    kind: &'static str,
    domain: &'static str,
    flat: bool,
    attributes: Vec<AttributeProto>,
    /// Inputs by name; `x.q`, `x.s`, `x.z`, `y.s` and `y.z` are there.
    inputs: Vec<&'static str>,
    stored: Vec<TensorProto>,
}

fn bytes(name: &str, dims: &[i64], values: &[i8]) -> TensorProto {
    let raw_data = Some(values.iter().map(|v| *v as u8).collect());
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 3, raw_data, ..TensorProto::default() }
}

fn words(name: &str, values: &[i32]) -> TensorProto {
    let raw_data = Some(values.iter().flat_map(|v| v.to_le_bytes()).collect());
    TensorProto { name: name.into(), dims: vec![values.len() as i64], data_type: 6, raw_data, ..TensorProto::default() }
}

/// Whole numbers without a pattern, in what int8 holds.
fn weights(count: usize) -> Vec<i8> {
    (0..count).map(|i| ((i * 37 + 11) % 255) as i32 - 127).map(|v| v as i8).collect()
}

fn cases() -> Vec<Case> {
    let case = |kind, domain, flat, attributes, inputs: &[&'static str], stored| Case {
        kind,
        domain,
        flat,
        attributes,
        inputs: inputs.to_vec(),
        stored,
    };
    let length = |n: usize| if n == 1 { vec![] } else { vec![n as i64] };
    let scale = |name: &str, values: &[f32]| floats(name, &length(values.len()), values);
    let zero = |name: &str, values: &[i8]| bytes(name, &length(values.len()), values);
    let two = ["x.q", "x.s", "x.z", "w", "w.s", "w.z", "y.s", "y.z"];
    let with_bias = ["x.q", "x.s", "x.z", "w", "w.s", "w.z", "y.s", "y.z", "b"];
    let one = ["x.q", "x.s", "x.z", "y.s", "y.z"];
    let conv = |scales: &[f32]| {
        let zeros = vec![0; scales.len()];
        vec![bytes("w", &[3, 4, 3, 3], &weights(108)), scale("w.s", scales), zero("w.z", &zeros), words("b", &[900, -1500, 40])]
    };
    let matrix = |dims: [i64; 2], scales: &[f32], zeros: &[i8]| {
        vec![bytes("w", &dims, &weights(12)), scale("w.s", scales), zero("w.z", zeros), words("b", &[300, -77, 12])]
    };
    let operand = || vec![bytes("w", &[4, 6, 6], &weights(144)), scale("w.s", &[0.011]), zero("w.z", &[9])];
    let channels = [0.02, 0.005, 0.01];
    vec![
        case("QLinearConv", "", false, vec![ints("pads", &[1, 1, 1, 1])], &with_bias, conv(&[0.01])),
        case("QLinearConv", "", false, vec![ints("strides", &[2, 2])], &with_bias, conv(&channels)),
        case("QLinearConv", "", false, vec![], &two, conv(&channels)),
        case("QLinearMatMul", "", true, vec![], &two, matrix([4, 3], &[0.01], &[0])),
        case("QLinearMatMul", "", true, vec![], &two, matrix([4, 3], &channels, &[0, 0, 0])),
        case(
            "QGemm",
            MICROSOFT,
            true,
            vec![int("transB", 1), float("alpha", 1.0)],
            &["x.q", "x.s", "x.z", "w", "w.s", "w.z", "b", "y.s", "y.z"],
            matrix([3, 4], &channels, &[0, 0, 0]),
        ),
        case(
            "QGemm",
            MICROSOFT,
            true,
            vec![],
            &["x.q", "x.s", "x.z", "w", "w.s", "w.z", "b", "y.s", "y.z"],
            matrix([4, 3], &[0.01], &[0]),
        ),
        case("QLinearAdd", MICROSOFT, false, vec![], &two, operand()),
        case("QLinearMul", MICROSOFT, false, vec![], &two, operand()),
        case("QLinearAveragePool", MICROSOFT, false, vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])], &one, vec![]),
        case("QLinearGlobalAveragePool", MICROSOFT, false, vec![], &one, vec![]),
        case("QLinearLeakyRelu", MICROSOFT, false, vec![float("alpha", 0.2)], &one, vec![]),
        case("QLinearSigmoid", MICROSOFT, false, vec![], &one, vec![]),
        case("QLinearSoftmax", MICROSOFT, true, vec![int("axis", 1), int("opset", 13)], &one, vec![]),
        case(
            "QLinearConcat",
            MICROSOFT,
            false,
            vec![int("axis", 1)],
            &["y.s", "y.z", "x.q", "x.s", "x.z", "x.q", "x.s", "x.z"],
            vec![],
        ),
    ]
}

/// `x` → QuantizeLinear → `before` → the operator → DequantizeLinear → `y`.
fn write(path: &Path, case: &Case, before: &[NodeProto]) {
    let node = |kind: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: kind.into(),
        name: kind.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let mut middle = node(case.kind, &case.inputs, "y.q");
    (middle.domain, middle.attribute) = (case.domain.into(), case.attributes.clone());
    let first = if before.is_empty() { "x.q" } else { "x.first" };
    let nodes = [
        vec![node("QuantizeLinear", &["x", "x.s", "x.z"], first)],
        before.to_vec(),
        vec![middle, node("DequantizeLinear", &["y.q", "y.s", "y.z"], "y")],
    ];
    let scalars = [floats("x.s", &[], &[STEP]), bytes("x.z", &[], &[-4]), floats("y.s", &[], &[OUT]), bytes("y.z", &[], &[3])];
    let shape: &[i64] = if case.flat { &[-1, 4] } else { &[-1, 4, 6, 6] };
    let graph = GraphProto {
        node: nodes.concat(),
        initializer: scalars
            .into_iter()
            .chain(case.stored.iter().filter(|t| case.inputs.contains(&t.name.as_str())).cloned())
            .collect(),
        input: vec![value("x", shape)],
        output: vec![ValueInfoProto {
            name: "y".into(),
            r#type: Some(TypeProto { tensor_type: Some(TensorType { elem_type: 1, shape: None }) }),
        }],
        ..GraphProto::default()
    };
    let opset = |domain: &str, version| OperatorSetId { domain: domain.into(), version };
    let model = ModelProto {
        ir_version: Some(8),
        graph: Some(graph),
        opset_import: vec![opset("", 17), opset(MICROSOFT, 1)],
        ..ModelProto::default()
    };
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

fn run(model: &Model, x: &Tensor) -> Tensor {
    tch::no_grad(|| Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0)
}

fn reads(path: &Path, x: &Tensor, what: &str) {
    let wanted = OnnxRuntime::open(path)
        .and_then(|mut r| r.run(std::slice::from_ref(x)))
        .unwrap_or_else(|e| panic!("{what}, in ONNX Runtime: {e}"));
    let read = load(path, &Options::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
    let absorbed = absorb(&read).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(absorbed.graph.outputs[0].name, "y", "{what}");
    for (how, model) in [("as read", &read), ("absorbed", &absorbed)] {
        let ours = run(model, x);
        assert_eq!(ours.size(), wanted.size(), "{what}, {how}");
        // Kernels may round another way at ties.
        let off = (ours - &wanted).abs().max().double_value(&[]) / f64::from(OUT);
        assert!(off < 1.01, "{what}, {how}: {off} steps off");
    }
    let certificate = certify(&absorbed, None, &[Reference::Unrounded]).unwrap();
    assert!(certificate.never_wraps() && certificate.ranges.iter().any(|r| r.value == "y"), "{what}: {certificate}");
    let [distance] = &certificate.distance[..] else { panic!("{what}: {certificate}") };
    assert!(distance.at_most.is_none_or(|most| distance.at_least <= most), "{what}: {certificate}");
}

#[test]
fn operators_of_integers_are_read_as_they_mean() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    for (nth, case) in cases().iter().enumerate() {
        let shape: &[i64] = if case.flat { &[5, 4] } else { &[5, 4, 6, 6] };
        let x = normal(1, shape);
        write(&path, case, &[]);
        reads(&path, &x, &format!("case {nth}, {}", case.kind));
    }
}

/// Files of integer operators pool and move the integers themselves.
#[test]
fn integers_are_followed_through_what_moves_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let x = normal(1, &[5, 4, 6, 6]);
    let cases = cases();
    let conv = &cases[2];
    for (kind, attributes) in [("Transpose", vec![ints("perm", &[0, 1, 3, 2])]), ("MaxPool", vec![ints("kernel_shape", &[2, 2])])]
    {
        let node = NodeProto {
            op_type: kind.into(),
            input: vec!["x.first".into()],
            output: vec!["x.q".into()],
            attribute: attributes,
            ..NodeProto::default()
        };
        write(&path, conv, &[node]);
        reads(&path, &x, kind);
    }
}

/// The sums of a product whose weights are known: each channel's least and greatest by hand.
#[test]
fn sums_of_integer_operators_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    write(&path, &cases()[5], &[]);
    let absorbed = absorb(&load(&path, &Options::default()).unwrap()).unwrap();
    let certificate = certify(&absorbed, None, &[Reference::Unrounded]).unwrap();
    let (rows, biases) = (weights(12), [300i64, -77, 12]);
    // The input holds -124 to 131 less its zero point of -4.
    let ends = rows.chunks(4).zip(biases).map(|(row, bias)| {
        let each = |low: i64, high: i64| {
            row.iter().map(|&w| if w > 0 { i64::from(w) * high } else { i64::from(w) * low }).sum::<i64>() + bias
        };
        (each(131, -124), each(-124, 131))
    });
    let (low, high) = ends.fold((0, 0), |(low, high), (a, b)| (low.min(a), high.max(b)));
    let sums = &certificate.layers[0].sums;
    assert_eq!((sums.low, sums.high), (low, high), "{certificate}");
}

/// What wraps is known to wrap, and nothing is said of what lies behind.
#[test]
fn behind_a_sum_that_wraps_nothing_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let mut case = cases().swap_remove(6);
    // The bias alone leaves little: 2^31 - 1 less the largest sum of the weights.
    case.stored.iter_mut().filter(|t| t.name == "b").for_each(|t| *t = words("b", &[i32::MAX - 10, 0, 0]));
    write(&path, &case, &[]);
    let absorbed = absorb(&load(&path, &Options::default()).unwrap()).unwrap();
    let certificate = certify(&absorbed, None, &[Reference::Unrounded]).unwrap();
    assert!(!certificate.never_wraps() && certificate.ranges.is_empty() && certificate.distance.is_empty(), "{certificate}");
    assert!(certificate.to_string().contains("WRAPS"), "{certificate}");
}
