//! Models that come quantized: refused where they would be compressed, read as float where that is asked for.

use std::path::Path;

use sinter_exec::Runner;
use sinter_export::OnnxRuntime;
use sinter_fixtures::protos::{file, floats, ints, longs, node, numbers, value};
use sinter_fixtures::{only_run, sinter, uniform, write_arrays};
use sinter_model::Mode;
use sinter_onnx::proto::{GraphProto, TensorProto};
use sinter_onnx::{Options, load};
use sinter_report::RunRecord;
use tch::{Kind, Tensor};

fn bytes(name: &str, data_type: i32, dims: &[i64], values: &[i64]) -> TensorProto {
    let raw_data = Some(match data_type {
        3 => values.iter().map(|v| *v as i8 as u8).collect(),
        _ => values.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect(),
    });
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type, raw_data, ..TensorProto::default() }
}

/// As onnxruntime's quantizer leaves a convolution, a ReLU that its quantizer stands for, and a dense layer.
fn by_others() -> Vec<u8> {
    let weights: Vec<i64> = (0..27).map(|i| (i * 37 + 5) % 255 - 127).collect();
    let dense: Vec<i64> = (0..96).map(|i| (i * 53 + 11) % 255 - 127).collect();
    let pair = |from: &str, scale: &str, zero: &str, to: &str| {
        let q = format!("{to}.q");
        [node("QuantizeLinear", &[from, scale, zero], &q, vec![]), node("DequantizeLinear", &[&q, scale, zero], to, vec![])]
    };
    let mut nodes = Vec::new();
    nodes.extend(pair("x", "sx", "zx", "xd"));
    nodes.push(node("DequantizeLinear", &["wq", "sw", "zw"], "w", vec![]));
    nodes.push(node("DequantizeLinear", &["bq", "sb", "zb"], "b", vec![]));
    nodes.push(node("Conv", &["xd", "w", "b"], "c", vec![ints("pads", &[1, 1, 1, 1])]));
    nodes.extend(pair("c", "sc", "zc", "cd"));
    nodes.push(node("Reshape", &["cd", "flat"], "f", vec![]));
    nodes.push(node("DequantizeLinear", &["vq", "sv", "zw"], "v", vec![]));
    nodes.push(node("MatMul", &["f", "v"], "y", vec![]));
    let stored = vec![
        floats("sx", &[], &[2.0 / 127.0]),
        bytes("zx", 3, &[], &[0]),
        bytes("wq", 3, &[3, 1, 3, 3], &weights),
        floats("sw", &[], &[0.01]),
        bytes("zw", 3, &[], &[0]),
        bytes("bq", 6, &[3], &[900, -400, 100]),
        floats("sb", &[], &[0.01 * 2.0 / 127.0]),
        bytes("zb", 6, &[], &[0]),
        // From zero on: the ReLU is in here.
        floats("sc", &[], &[0.04]),
        bytes("zc", 3, &[], &[-128]),
        longs("flat", &[0, -1]),
        bytes("vq", 3, &[48, 2], &dense),
        floats("sv", &[], &[0.005]),
    ];
    let graph = GraphProto {
        node: nodes,
        initializer: stored,
        input: vec![value("x", &[-1, 1, 4, 4])],
        output: vec![value("y", &[-1, 2])],
        ..GraphProto::default()
    };
    file(graph)
}

fn random(shape: &[i64]) -> Tensor {
    uniform(1, shape) * 2.0 - 1.0
}

#[test]
fn a_relu_that_a_quantizer_stood_for_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q.onnx");
    std::fs::write(&path, by_others()).unwrap();
    let float = sinter_certify::dequantize(&load(&path, &Options::default()).unwrap()).unwrap();
    let kinds: Vec<&str> = float.graph.nodes.iter().map(|n| n.kind()).collect();
    assert_eq!(kinds, ["Conv", "Relu", "Reshape", "MatMul"]);
    assert_eq!(float.layers().len(), 2);
    let x = random(&[64, 1, 4, 4]);
    let ours = tch::no_grad(|| Runner::new(&float).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().swap_remove(0);
    let theirs = OnnxRuntime::open(&path).unwrap().run(&[x]).unwrap();
    let apart = (&ours - &theirs).abs().mean(Kind::Float).double_value(&[]) / theirs.abs().mean(Kind::Float).double_value(&[]);
    assert!(apart < 0.05, "{apart}");
}

fn write(folder: &Path, model: &str, stages: &str) {
    std::fs::write(folder.join("q.onnx"), by_others()).unwrap();
    let graph = GraphProto {
        node: vec![node("MatMul", &["x", "w"], "y", vec![])],
        initializer: vec![floats("w", &[4, 2], &numbers(8, 1.0))],
        input: vec![value("x", &[-1, 1, 4, 4])],
        output: vec![value("y", &[-1, 1, 4, 2])],
        ..GraphProto::default()
    };
    std::fs::write(folder.join("float.onnx"), file(graph)).unwrap();
    write_arrays(&folder.join("d.npz"), &[("x", &random(&[120, 1, 4, 4]))]);
    std::fs::write(folder.join("data.yaml"), "name: d\nsource: { numpy: { path: d.npz } }\n").unwrap();
    std::fs::write(folder.join("p.yaml"), format!("name: p\nmodel: {model}\ndata: data.yaml\nstages:{stages}\n")).unwrap();
}

#[test]
fn it_goes_on_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let stages = "\n  - prune: { unstructured: { sparsity: 10% } }\n  - quantize: {}";
    write(folder.path(), "{ onnx: q.onnx, dequantize: true }", stages);
    let done = sinter(folder.path(), &["run", "p.yaml"]);
    assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("the model came quantized"));
    let record = RunRecord::read(&only_run(folder.path(), "p")).unwrap();
    assert!(record.exported().unwrap().value.unwrap() > 0.98, "{:?}", record.measured);
    // As it is, it is measured.
    write(folder.path(), "{ onnx: q.onnx }", " []");
    assert!(sinter(folder.path(), &["check", "p.yaml"]).status.success());
    let cases = [
        ("{ onnx: q.onnx }", stages, "the model is already quantized: it holds QuantizeLinear `xd.q`", "dequantize: true"),
        ("{ onnx: float.onnx, dequantize: true }", stages, "the model is not quantized", "leave `dequantize` out"),
        ("{ zoo: lenet5, dequantize: true }", stages, "`dequantize` goes with `onnx`", "p.yaml:2"),
    ];
    for (model, stages, wanted, help) in cases {
        write(folder.path(), model, stages);
        let done = sinter(folder.path(), &["check", "p.yaml"]);
        let said = String::from_utf8_lossy(&done.stderr).replace("\n        ", " ");
        assert!(done.status.code() == Some(2) && said.contains(wanted) && said.contains(help), "{model}: {said}");
    }
}
