//! Models of several inputs, of floats and of whole numbers: data by name, a whole run, and what does not fit.

use std::path::Path;

use npyz::WriterBuilder;
use sinter_fixtures::protos::{file, floats, int, longs, node, numbers, typed, value};
use sinter_fixtures::{only_run, sinter};
use sinter_onnx::proto::GraphProto;
use sinter_report::RunRecord;

const WORDS: i64 = 12;
const LENGTH: i64 = 6;
const WIDE: i64 = 8;

/// Token ids (int64) through an embedding, averaged under a mask (int32), beside three floats: two classes. The length of texts is a dimension without
/// a name.
fn write_model(path: &Path) {
    let nodes = vec![
        node("Gather", &["table", "ids"], "embedded", vec![]),
        node("Cast", &["mask"], "weights", vec![int("to", 1)]),
        node("Unsqueeze", &["weights", "last"], "column", vec![]),
        node("Mul", &["embedded", "column"], "masked", vec![]),
        node("ReduceSum", &["masked", "middle"], "text", vec![int("keepdims", 0)]),
        node("Concat", &["text", "facts"], "all", vec![int("axis", 1)]),
        node("Gemm", &["all", "w1", "b1"], "hidden", vec![int("transB", 1)]),
        node("Relu", &["hidden"], "active", vec![]),
        node("Gemm", &["active", "w2", "b2"], "scores", vec![int("transB", 1)]),
    ];
    let stored = vec![
        floats("table", &[WORDS, WIDE], &numbers(WORDS * WIDE, 0.5)),
        longs("last", &[-1]),
        longs("middle", &[1]),
        floats("w1", &[16, WIDE + 3], &numbers(16 * (WIDE + 3), 0.4)),
        floats("b1", &[16], &numbers(16, 0.1)),
        floats("w2", &[2, 16], &numbers(32, 0.4)),
        floats("b2", &[2], &[0.0, 0.0]),
    ];
    let graph = GraphProto {
        node: nodes,
        initializer: stored,
        input: vec![typed("ids", 7, &["batch", ""]), typed("mask", 6, &["batch", ""]), typed("facts", 1, &["batch", "3"])],
        output: vec![value("scores", &[-1, 2])],
        ..GraphProto::default()
    };
    std::fs::write(path, file(graph)).unwrap();
}

/// Texts whose first word and first fact say the class.
fn write_data(path: &Path, count: u64) {
    let mut random = fastrand::Rng::with_seed(5);
    let (mut ids, mut mask, mut facts, mut labels) = (vec![], vec![], vec![], vec![]);
    for _ in 0..count {
        let class = random.i64(0..2);
        let length = random.i64(2..=LENGTH);
        for place in 0..LENGTH {
            ids.push(if place == 0 { class * 5 } else { random.i64(0..WORDS) });
            mask.push(i64::from(place < length));
        }
        facts.push(class as f32 + random.f32() * 0.8);
        facts.extend([random.f32(), random.f32()]);
        labels.push(class);
    }
    let mut archive = npyz::npz::NpzWriter::create(path).unwrap();
    let mut put = |name: &str, dims: &[u64], values: &[i64]| {
        let mut array = archive.array(name, Default::default()).unwrap().default_dtype().shape(dims).begin_nd().unwrap();
        array.extend(values.iter().copied()).unwrap();
        array.finish().unwrap();
    };
    put("tokens", &[count, LENGTH as u64], &ids);
    put("seen", &[count, LENGTH as u64], &mask);
    put("y", &[count], &labels);
    let mut array = archive.array("numbers", Default::default()).unwrap().default_dtype().shape(&[count, 3]).begin_nd().unwrap();
    array.extend(facts).unwrap();
    array.finish().unwrap();
}

const INPUTS: &str = "{ ids: tokens, mask: seen, facts: numbers }";
const STAGES: &str = "  - train: { epochs: 30, lr: 1e-2, batch_size: 16 }\n  - prune: { unstructured: { sparsity: 30% } }\n  - cluster: { centroids: 16 }\n  - distill: { epochs: 1 }\n  - quantize: {}\nexport: [packed, onnx]\n";

fn write(folder: &Path, inputs: &str, rest: &str) {
    write_model(&folder.join("text.onnx"));
    write_data(&folder.join("text.npz"), 400);
    let data = format!("name: text\nsource: {{ numpy: {{ path: text.npz, inputs: {inputs} }} }}\n");
    std::fs::write(folder.join("data.yaml"), data).unwrap();
    let text = format!("name: text\nmodel: {{ onnx: text.onnx }}\ndata: data.yaml\nstages:\n{rest}");
    std::fs::write(folder.join("text.yaml"), text).unwrap();
}

#[test]
fn a_model_of_three_inputs_runs_from_data_to_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), INPUTS, STAGES);
    let done = sinter(folder.path(), &["run", "text.yaml"]);
    assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let record = RunRecord::read(&only_run(folder.path(), "text")).unwrap();
    let (float, last) = (record.float().unwrap(), record.last().unwrap());
    assert!(float.value > 0.9, "it learnt: {}", float.value);
    assert!(last.value > float.value - 0.1, "{} against {}", last.value, float.value);
    // The file took the same inputs in ONNX Runtime.
    let measured = record.measured.iter().find(|m| m.artifact.ends_with("model.onnx")).unwrap();
    assert!(measured.value.is_some_and(|v| (v - measured.simulated).abs() < 0.03), "{measured:?}");
    assert!(measured.latency_median.is_some());
}

#[test]
fn what_does_not_fit_is_told_before_anything_runs() {
    let cases = [
        ("{ ids: tokens, facts: numbers }", STAGES, "does not give the model's input `mask`"),
        ("{ ids: tokens, mask: seen, facts: numbers, more: y }", STAGES, "the model has no input `more`"),
        ("{ ids: tokens, mask: seen, facts: nothing }", STAGES, "no array `nothing`"),
        ("{ ids: tokens, mask: seen, facts: tokens }", STAGES, "the model's input `facts` is [batch, 3]"),
        (INPUTS, "  - quantize: {}\nexport: [tflite]\n", "files for devices have one of floats"),
    ];
    for (inputs, stages, wanted) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), inputs, stages);
        let done = sinter(folder.path(), &["check", "text.yaml"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && said.contains(wanted), "{inputs}: {said}");
    }
    // One array where the model wants three.
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), INPUTS, STAGES);
    std::fs::write(folder.path().join("data.yaml"), "name: text\nsource: { numpy: { path: text.npz, samples: numbers } }\n")
        .unwrap();
    let done = sinter(folder.path(), &["check", "text.yaml"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.code() == Some(2) && said.contains("the model has 3 inputs (ids, mask, facts), and the data gives one array"),
        "{said}"
    );
}
