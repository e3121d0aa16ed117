//! Operators whose form changed from opset to opset: each in every form that it had, read, written and run in ONNX Runtime.

use std::path::Path;

use prost::Message;
use sinter_exec::Runner;
use sinter_export::OnnxRuntime;
use sinter_fixtures::normal;
use sinter_fixtures::protos::{float, floats, int, ints, longs, text, value};
use sinter_model::Mode;
use sinter_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetId, TensorProto, TensorType, TypeProto, ValueInfoProto,
};
use sinter_onnx::{Options, Storage, load, save};

/// One node over `x` of `[batch, 4, 6, 6]` with stored tensors; its first result is the output.
struct Case {
    kind: &'static str,
    opsets: std::ops::RangeInclusive<i64>,
    attributes: Vec<AttributeProto>,
    stored: Vec<TensorProto>,
    outputs: usize,
}

fn cases() -> Vec<Case> {
    let case = |kind, opsets, attributes: Vec<AttributeProto>, stored: Vec<TensorProto>| Case {
        kind,
        opsets,
        attributes,
        stored,
        outputs: 1,
    };
    let scalar = |name: &str, v: f32| floats(name, &[], &[v]);
    let four = |name: &str| floats(name, &[4], &[0.5, 1.0, 1.5, 2.0]);
    let weight: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
    let mut all = vec![
        case("Clip", 7..=10, vec![float("min", -0.5), float("max", 0.5)], vec![]),
        case("Clip", 11..=23, vec![], vec![scalar("low", -0.5), scalar("high", 0.5)]),
        case("Pad", 7..=10, vec![ints("pads", &[0, 0, 1, 2, 0, 0, 0, 1]), float("value", 0.25)], vec![]),
        case("Pad", 11..=23, vec![], vec![longs("pads", &[0, 0, 1, 2, 0, 0, 0, 1]), scalar("fill", 0.25)]),
        case("Slice", 7..=9, vec![ints("starts", &[1, 0]), ints("ends", &[3, 5]), ints("axes", &[1, 3])], vec![]),
        case("Slice", 10..=23, vec![], vec![longs("starts", &[1, 0]), longs("ends", &[3, 5]), longs("axes", &[1, 3])]),
        case("Unsqueeze", 7..=12, vec![ints("axes", &[2])], vec![]),
        case("Unsqueeze", 13..=23, vec![], vec![longs("axes", &[2])]),
        case("TopK", 7..=9, vec![int("k", 2), int("axis", 1)], vec![]),
        case("TopK", 10..=23, vec![int("axis", 1)], vec![longs("k", &[2])]),
        case("Dropout", 7..=11, vec![float("ratio", 0.3)], vec![]),
        case("Dropout", 12..=23, vec![], vec![scalar("ratio", 0.3)]),
        case("Split", 7..=12, vec![ints("split", &[1, 3]), int("axis", 1)], vec![]),
        case("Split", 7..=17, vec![int("axis", 1)], vec![]),
        case("Split", 13..=23, vec![int("axis", 1)], vec![longs("split", &[1, 3])]),
        case("Split", 18..=23, vec![int("axis", 1), int("num_outputs", 2)], vec![]),
        case("ReduceSum", 7..=12, vec![ints("axes", &[1]), int("keepdims", 0)], vec![]),
        case("ReduceSum", 13..=23, vec![int("keepdims", 0)], vec![longs("axes", &[1])]),
        case("BatchNormalization", 7..=23, vec![], vec![four("scale"), four("bias"), four("mean"), four("var")]),
        case("Conv", 7..=23, vec![], vec![floats("w", &[4, 4, 1, 1], &weight), four("b")]),
        case("AveragePool", 7..=23, vec![ints("kernel_shape", &[2, 2])], vec![]),
        case("MaxPool", 7..=23, vec![ints("kernel_shape", &[2, 2])], vec![]),
        case("Softmax", 13..=23, vec![int("axis", 1)], vec![]),
        case("Softmax", 7..=12, vec![int("axis", 3)], vec![]),
        case("Softmax", 7..=12, vec![int("axis", 2)], vec![]),
        case("Softmax", 7..=12, vec![], vec![]),
        case("Softmax", 11..=12, vec![int("axis", -1)], vec![]),
        case("LogSoftmax", 7..=12, vec![int("axis", 1)], vec![]),
        case("LogSoftmax", 13..=23, vec![int("axis", 1)], vec![]),
        case("Hardmax", 7..=12, vec![int("axis", 2)], vec![]),
        case("Hardmax", 13..=23, vec![int("axis", 2)], vec![]),
        case("LayerNormalization", 17..=23, vec![], vec![floats("scale", &[6], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0])]),
        case(
            "Resize",
            13..=23,
            vec![text("mode", "nearest"), text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")],
            vec![floats("roi", &[0], &[]), floats("scales", &[4], &[1.0, 1.0, 2.0, 2.0])],
        ),
        case("GroupNormalization", 21..=23, vec![int("num_groups", 2)], vec![four("scale"), four("bias")]),
        case("HardSwish", 14..=23, vec![], vec![]),
        case("Gelu", 20..=23, vec![], vec![]),
        case("LeakyRelu", 7..=23, vec![float("alpha", 0.2)], vec![]),
        case("PRelu", 7..=23, vec![], vec![floats("slope", &[4, 1, 1], &[0.1, 0.2, 0.3, 0.4])]),
        case("Transpose", 7..=23, vec![ints("perm", &[0, 2, 3, 1])], vec![]),
        case("Flatten", 7..=23, vec![], vec![]),
        case("Reshape", 7..=23, vec![], vec![longs("shape", &[0, -1, 6])]),
    ];
    for kind in
        ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"]
    {
        all.push(case(kind, 7..=17, vec![ints("axes", &[2, 3])], vec![]));
        all.push(case(kind, 18..=23, vec![], vec![longs("axes", &[2, 3])]));
    }
    for kind in [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Abs",
        "Neg",
        "Exp",
        "Floor",
        "Ceil",
        "Elu",
        "Selu",
        "Softplus",
        "Softsign",
        "HardSigmoid",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
    ] {
        all.push(case(kind, 7..=23, vec![], vec![]));
    }
    for kind in ["Erf", "Sign"] {
        all.push(case(kind, 9..=23, vec![], vec![]));
    }
    for kind in ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"] {
        // Before opset 8 some did not broadcast.
        all.push(case(kind, 8..=23, vec![], vec![floats("other", &[4, 1, 1], &[0.5, 1.0, 2.0, 3.0])]));
    }
    // A negative base takes whole exponents only.
    all.push(case("Pow", 8..=23, vec![], vec![floats("other", &[4, 1, 1], &[1.0, 2.0, 3.0, 0.0])]));
    for case in &mut all {
        case.outputs = match case.kind {
            "Split" | "TopK" => 2,
            _ => 1,
        };
    }
    all
}

fn write(path: &Path, case: &Case, opset: i64) {
    let outputs: Vec<String> = (0..case.outputs).map(|i| format!("y{i}")).collect();
    let node = NodeProto {
        op_type: case.kind.into(),
        name: "node".into(),
        input: std::iter::once("x".to_string()).chain(case.stored.iter().map(|t| t.name.clone())).collect(),
        output: outputs.clone(),
        attribute: case.attributes.clone(),
        ..NodeProto::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: case.stored.clone(),
        input: vec![value("x", &[-1, 4, 6, 6])],
        output: vec![ValueInfoProto {
            name: "y0".into(),
            r#type: Some(TypeProto { tensor_type: Some(TensorType { elem_type: 1, shape: None }) }),
        }],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetId { domain: String::new(), version: opset }];
    let model = ModelProto { ir_version: Some(8), graph: Some(graph), opset_import, ..ModelProto::default() };
    std::fs::write(path, model.encode_to_vec()).unwrap();
}

#[test]
fn every_form_is_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let (given, again) = (folder.path().join("given.onnx"), folder.path().join("again.onnx"));
    let x = normal(1, &[3, 4, 6, 6]);
    let mut count = 0;
    for case in cases() {
        for opset in case.opsets.clone() {
            let what = format!("{} of opset {opset}", case.kind);
            write(&given, &case, opset);
            let wanted = OnnxRuntime::open(&given)
                .and_then(|mut r| r.run(std::slice::from_ref(&x)))
                .unwrap_or_else(|e| panic!("{what}, as given: {e}"));
            let model = load(&given, &Options::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
            let ours = tch::no_grad(|| Runner::new(&model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
            save(&model, &again, Storage::Inside).unwrap();
            let theirs = OnnxRuntime::open(&again)
                .and_then(|mut r| r.run(std::slice::from_ref(&x)))
                .unwrap_or_else(|e| panic!("{what}, written: {e}"));
            for (who, value) in [("interpreter", &ours), ("written file", &theirs)] {
                let off = (value - &wanted).abs().max().double_value(&[]);
                assert!(value.size() == wanted.size() && off < 1e-4, "{what}: the {who} is off by {off}");
            }
            count += 1;
        }
    }
    assert!(count > 600, "{count}");
}
