//! Look-up tables, such as embeddings: fewer bits, rows picked as integers, and the file answers as the simulation does.

use sinter_data::Dataset;
use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, pack, unpack};
use sinter_fixtures::{Sketch, parse, uniform, write_npz};
use sinter_model::{Attributes, Mode, Model, Weight};
use sinter_pipeline::StageConfig;
use sinter_train::{Context, StageError, apply};
use tch::Tensor;

const WORDS: i64 = 200;

/// Six words, the mean of their rows, and a layer behind it; `tied`: the table scores the words too.
fn model(wide: i64, tied: bool) -> Model {
    let mut s = Sketch::new(&[6]);
    s.weight("table", &[WORDS, wide]).node("Cast", Attributes::new().int("to", 7), &["x"], "ids");
    s.node("Gather", Attributes::new(), &["table", "ids"], "rows");
    s.constant("middle", Tensor::from_slice(&[1i64]));
    s.node("ReduceMean", Attributes::new().int("keepdims", 0), &["rows", "middle"], "text");
    s.weight("w", &[wide, wide]).node("MatMul", Attributes::new(), &["text", "w"], "hidden");
    match tied {
        true => s.node("Gemm", Attributes::new().int("transB", 1), &["hidden", "table"], "y"),
        false => s.node("Relu", Attributes::new(), &["hidden"], "y"),
    };
    s.finish()
}

/// Sentences of six words each.
fn words(seed: u64, count: i64) -> Tensor {
    (uniform(seed, &[count, 6]) * WORDS as f64).floor()
}

fn data() -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    let x = words(5, 60);
    write_npz(&path, &x, (0..60).map(|i| i % 3));
    Dataset::open(&parse(&format!("name: d\nsource: {{ numpy: {{ path: {} }} }}", path.display()))).unwrap()
}

fn quantized(model: Model, stage: &str) -> Result<Model, StageError> {
    let stage: StageConfig = parse(&format!("quantize: {stage}"));
    let data = data();
    apply(stage.stage(), model, &Context::alone(&data, &GENERIC))
}

/// The largest difference between the simulation and ONNX Runtime, and the file's bytes.
fn apart(model: &Model) -> (f64, usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    explicit(model).unwrap().save(&file).unwrap();
    let x = words(9, 20);
    let ours = Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict).unwrap().remove(0);
    let theirs = OnnxRuntime::open(&file).unwrap().run(&[x]).unwrap();
    ((ours - theirs).abs().max().double_value(&[]), std::fs::metadata(&file).unwrap().len() as usize)
}

#[test]
fn every_format_reads_back_as_it_was_simulated() {
    // The bytes of a row, without its scales.
    for (format, row, wide) in [
        ("int8/channel", 32, 32),
        ("int8", 32, 32),
        ("symmetric8/group:8", 32, 32),
        ("uint8/channel", 32, 32),
        ("int5/channel", 32, 32),
        ("int4/channel", 16, 32),
        ("int4/group:16", 16, 32),
        ("uint4/group:8", 16, 32),
        ("int3/group:8", 16, 32),
        ("ternary/channel", 16, 32),
        ("binary/channel", 16, 32),
        ("fp16", 64, 32),
        ("bf16", 64, 32),
        // A byte holds two numbers of a row, and a row of 31 has one left over.
        ("int4/channel", 31, 31),
        // Groups that do not divide a row.
        ("int4/group:12", 16, 32),
    ] {
        let float = model(wide, false);
        let stage = format!("{{ activations: none, weights: int8/channel, embeddings: {format} }}");
        let result = quantized(float, &stage).unwrap();
        result.check().unwrap();
        let (off, bytes) = apart(&result);
        assert!(off < 1e-5, "{format} of {wide}: {off}");
        let most = row * WORDS as usize + 4 * WORDS as usize * 5 + 32 * 32 + 3000;
        assert!(bytes < most && bytes > row * WORDS as usize, "{format}: {bytes} bytes, {most} at most");
        let packed = unpack(&pack(&result).unwrap().bytes).unwrap();
        let value = |m: &Model| m.weights["table"].effective().unwrap();
        assert!(value(&result).equal(&value(&packed)), "{format}");
    }
}

#[test]
fn nothing_dequantizes_the_whole_table() {
    for format in ["int8/channel", "int4/group:16", "uint4/channel", "fp16"] {
        let stage = format!("{{ activations: none, embeddings: {format} }}");
        let file = explicit(&quantized(model(32, false), &stage).unwrap()).unwrap().model;
        let whole = |value: &str| file.weights.get(value).is_some_and(|w: &Weight| w.size().first() == Some(&WORDS));
        let mut picks = 0;
        for node in file.graph.nodes.iter().filter(|n| n.inputs.iter().any(|i| whole(i))) {
            assert_eq!(node.kind(), "Gather", "{format}: {}", node.name);
            picks += 1;
        }
        assert!(picks > 0, "{format}");
    }
}

#[test]
fn a_table_that_is_a_layer_too_stays_one() {
    for stage in [
        "{ activations: none }",
        "{}",
        "{ activations: dynamic }",
        "{ activations: none, weights: int4/channel }",
        "{ activations: none, weights: int4/group:16 }",
        "{ activations: none, weights: fp16 }",
    ] {
        let result = quantized(model(32, true), stage).unwrap();
        let (off, bytes) = apart(&result);
        // Quantized activations differ by steps of their own, and the runtime's product of four bits rounds what it reads to eight.
        let most = if stage.contains("none") && !stage.contains("int4") { 1e-4 } else { 0.1 };
        assert!(off < most, "{stage}: {off}");
        let table = (32 * WORDS) as usize * if stage.contains("fp16") { 2 } else { 1 };
        assert!(bytes < table + 9000, "{stage}: {bytes} bytes hold the table more than once");
    }
}

#[test]
fn rows_that_integers_read_have_scales_of_their_own() {
    for stage in [
        "{}",
        "{ activations: uint4 }",
        "{ activations: int8, embeddings: int4/group:16 }",
        "{ embeddings: uint8/channel }",
        "{ activations: uint4, embeddings: uint4/channel }",
        "{ activations: dynamic }",
    ] {
        let mut s = Sketch::new(&[6]);
        s.weight("Table", &[WORDS, 32]).node("Cast", Attributes::new().int("to", 7), &["x"], "ids");
        s.node("Gather", Attributes::new(), &["Table", "ids"], "rows");
        s.weight("w", &[32, 16]).node("MatMul", Attributes::new(), &["rows", "w"], "y");
        let result = quantized(s.finish(), stage).unwrap();
        assert!(stage.contains("dynamic") || result.activations.contains_key("rows"), "{stage}");
        let (off, _) = apart(&result);
        assert!(off < 0.02, "{stage}: {off}");
    }
}

#[test]
fn files_with_tables_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    for stage in ["{}", "{ embeddings: int4/group:16 }", "{ embeddings: fp16 }"] {
        let result = quantized(model(32, false), stage).unwrap();
        let file = folder.path().join("model.onnx");
        explicit(&result).unwrap().save(&file).unwrap();
        let read = sinter_onnx::load(&file, &sinter_onnx::Options::default()).unwrap();
        let back = sinter_certify::absorb(&read).unwrap();
        let x = words(9, 20);
        let run = |m: &Model| Runner::new(m).unwrap().run(&[x.shallow_clone()], Mode::Predict).unwrap().remove(0);
        let off = (run(&result) - run(&back)).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{stage}: {off}");
    }
}

#[test]
fn the_format_is_the_users_choice() {
    let table = |stage: &str| quantized(model(32, false), stage).map(|m| m.weights["table"].describe().unwrap());
    assert!(table("{}").unwrap().contains("int8"), "{:?}", table("{}"));
    for left in [
        "{ embeddings: none }",
        "{ layers: [{ match: table, weights: none }] }",
        "{ layers: [{ match: Gather, weights: none }] }",
    ] {
        assert!(!table(left).unwrap().contains("int"), "{left}: {:?}", table(left));
    }
    assert!(table("{ layers: [{ match: table, weights: int4/group:8 }] }").unwrap().contains("int4"));
    assert!(table("{ weights: fp16, activations: none }").unwrap().contains("16"));
    // A zero point is fine where no integer kernel reads it, and only there.
    assert!(table("{ layers: [{ match: table, weights: uint8/channel }] }").unwrap().contains("uint8"));
    assert!(table("{ layers: [{ match: w, weights: uint8/channel }] }").is_err());
    // Layers have their own.
    let result = quantized(model(32, false), "{ weights: int4/channel, activations: none, embeddings: int8/channel }").unwrap();
    assert_eq!(result.weights["table"].quantizer().unwrap().bits(), 8);
    assert_eq!(result.weights["w"].quantizer().unwrap().bits(), 4);
    let mut s = Sketch::new(&[8]);
    s.weight("w", &[8, 8]).node("MatMul", Attributes::new(), &["x", "w"], "y");
    let refused = quantized(s.finish(), "{ embeddings: int4/channel }").unwrap_err().to_string();
    assert!(refused.contains("no look-up table"), "{refused}");
}
