//! Language models: from a folder to what runs them.

use std::path::{Path, PathBuf};

use npyz::npz::NpzArchive;
use sinter_exec::Runner;
use sinter_fixtures::{fixture, only_run, parse, record, sinter, write_language};
use sinter_hub::HubError;
use sinter_model::{Mode, to_f32s};
use tch::Tensor;

/// Small random models of every architecture, as transformers saved them (tests/fixtures/language/make.py).
fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture("language")).unwrap().map(|e| e.unwrap().path());
    let folders: Vec<PathBuf> = entries.filter(|p| p.is_dir()).collect();
    assert!(folders.len() >= 7);
    folders
}

#[test]
fn logits_are_those_of_transformers() {
    for folder in folders() {
        let file = std::io::BufReader::new(std::fs::File::open(folder.join("expected.npz")).unwrap());
        let mut archive = NpzArchive::new(file).unwrap();
        let ids = archive.by_name("ids").unwrap().unwrap();
        let shape: Vec<i64> = ids.shape().iter().map(|&n| n as i64).collect();
        let ids = Tensor::from_slice(&ids.into_vec::<i64>().unwrap()).reshape(&shape);
        let wanted = archive.by_name("logits").unwrap().unwrap().into_vec::<f32>().unwrap();
        let (model, notes) = sinter_hub::read(&folder, shape[1]).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let found = tch::no_grad(|| Runner::new(&model).unwrap().run(&[ids], Mode::Predict).unwrap());
        let found = to_f32s(&found[0]).unwrap();
        let largest = wanted.iter().fold(0f32, |a, v| a.max(v.abs()));
        let off = found.iter().zip(&wanted).fold(0f32, |a, (x, y)| a.max((x - y).abs()));
        assert_eq!(found.len(), wanted.len());
        assert!(off <= 1e-4 * largest, "{}: {off} of {largest}", folder.display());
    }
}

/// A copy of a fixture's folder that may be spoilt.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("language").join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

fn refused(folder: &Path, words: &[&str]) {
    let said = match sinter_hub::read(folder, 12) {
        Ok(_) => panic!("{words:?}: it was read"),
        Err(e) => e.to_string(),
    };
    words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in: {said}"));
}

fn edit(folder: &Path, file: &str, change: impl Fn(String) -> String) {
    let path = folder.join(file);
    std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
}

#[test]
fn damaged_folders_are_refused_with_file_and_tensor() {
    let whole = || copy("llama-tied");
    let shards = || copy("llama3-shards");
    let broken = |make: &dyn Fn() -> tempfile::TempDir, spoil: &dyn Fn(&Path), words: &[&str]| {
        let folder = make();
        spoil(folder.path());
        refused(folder.path(), words);
    };
    let config = |from: &'static str, to: &'static str| move |at: &Path| edit(at, "config.json", |text| text.replace(from, to));
    broken(&whole, &config("LlamaForCausalLM", "MambaForCausalLM"), &["`MambaForCausalLM` is not known", "Qwen3ForCausalLM"]);
    broken(&whole, &config("\"hidden_size\": 16", "\"hidden_size\": 32"), &["model.embed_tokens.weight", "[32, 16]", "[32, 32]"]);
    broken(&whole, &config("\"hidden_size\": 16", "\"hidden_size\": -16"), &["hidden_size", "no size"]);
    broken(&whole, &config("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"), &["4 heads", "3"]);
    broken(&whole, &config("\"rope_type\": \"default\"", "\"rope_type\": \"spiral\""), &["`spiral`"]);
    broken(&whole, &config("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\""), &["gelu"]);
    broken(
        &whole,
        &config("\"max_position_embeddings\": 64", "\"max_position_embeddings\": 8"),
        &["at most 8 tokens", "tokens: 8"],
    );
    broken(
        &whole,
        &config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
        &["model.layers.2.input_layernorm.weight", "do not hold it"],
    );
    broken(&whole, &config("\"vocab_size\"", "\"quantization_config\": {}, \"vocab_size\""), &["quantized already"]);
    broken(&whole, &config("{", "["), &["config.json"]);
    broken(&whole, &|at| std::fs::remove_file(at.join("config.json")).unwrap(), &["config.json"]);
    broken(&whole, &|at| std::fs::remove_file(at.join("model.safetensors")).unwrap(), &["neither model.safetensors nor"]);
    let cut = |file: &'static str| {
        move |at: &Path| {
            let bytes = std::fs::read(at.join(file)).unwrap();
            std::fs::write(at.join(file), &bytes[..bytes.len() - 100]).unwrap();
        }
    };
    broken(&whole, &cut("model.safetensors"), &["model.safetensors", "no whole safetensors file"]);
    broken(&shards, &cut("model-00002-of-00003.safetensors"), &["model-00002-of-00003", "no whole safetensors file"]);
    broken(
        &shards,
        &|at| std::fs::remove_file(at.join("model-00002-of-00003.safetensors")).unwrap(),
        &["could not read", "model-00002-of-00003"],
    );
    let index = "model.safetensors.index.json";
    broken(&shards, &|at| edit(at, index, |t| t.replacen("model-00001", "model-00003", 1)), &["it says that", "it does not"]);
    broken(
        &shards,
        &|at| edit(at, index, |t| t.replace("model-00001-of", "../model-00001-of")),
        &["no name of a file of this folder"],
    );
    // A header that promises 2^63 bytes.
    let header = |at: &Path| {
        let mut bytes = std::fs::read(at.join("model.safetensors")).unwrap();
        bytes[..8].copy_from_slice(&(1u64 << 63).to_le_bytes());
        std::fs::write(at.join("model.safetensors"), bytes).unwrap();
    };
    broken(&whole, &header, &["no whole safetensors file"]);
    let nan = |at: &Path| {
        let mut bytes = std::fs::read(at.join("model.safetensors")).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        std::fs::write(at.join("model.safetensors"), bytes).unwrap();
    };
    broken(&whole, &nan, &["NaN"]);
    assert!(matches!(sinter_hub::read(Path::new("nowhere"), 12), Err(HubError::Read { .. })));
}

const TRAIN: &str = "  - train: { epochs: 6, lr: 5e-3, batch_size: 16 }\n";

/// One run from a text to every file; `layers` are formats of some layers.
fn run(folder: &Path, quantize: &str, export: &str) -> std::process::Output {
    let pipeline = format!(
        "name: words\nseed: 3\nmodel: {{ huggingface: model }}\ndata: data.yaml\nmetrics: [accuracy, kl, agreement]\nstages:\n{TRAIN}  - quantize: \
         {{ {quantize} }}\nexport: [{export}]\n"
    );
    std::fs::write(folder.join("words.yaml"), pipeline).unwrap();
    sinter(folder, &["run", "words.yaml"])
}

#[test]
fn a_text_becomes_a_model_of_four_bits_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    write_language(folder.path());
    let recipe =
        "weights: int4/group:32, activations: none, rounding: gptq, samples: 64, layers: [{ match: lm_head, weights: none }]";
    let output = run(folder.path(), recipe, "packed, onnx, compressed-tensors, gguf");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = record(folder.path(), "words");
    let values: Vec<f64> = record.stages.iter().map(|s| s.value).collect();
    assert_eq!(record.metric.name, "perplexity");
    // Of 263 tokens; the grammar leaves few choices.
    assert!(values[0] > 100.0 && values[1] < 3.0, "{values:?}");
    assert!(values[2] < values[1] * 1.1, "{values:?}");
    let onnx = record.measured.iter().find(|m| m.artifact.ends_with("model.onnx")).unwrap();
    assert!(onnx.value.is_none_or(|v| (v / values[2] - 1.0).abs() < 1e-3), "{onnx:?}");
    let at = only_run(folder.path(), "words").join("artifacts");
    let config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(at.join("compressed-tensors/config.json")).unwrap()).unwrap();
    assert_eq!(config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"], 32);
    assert_eq!(config["quantization_config"]["ignore"], serde_json::json!(["lm_head"]));
    assert!(
        at.join("compressed-tensors/tokenizer.json").is_file() && at.join("compressed-tensors/chat_template.jinja").is_file()
    );
    let gguf = std::fs::read(at.join("model.gguf")).unwrap();
    assert_eq!(&gguf[..8], b"GGUF\x03\0\0\0");
    // The embeddings in eight bits too, which are the head as well: one tensor, in one format.
    let tied = recipe.replace("weights: none", "weights: int8/group:32");
    let output = run(folder.path(), &tied, "gguf");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sizes = |at: &Path| std::fs::metadata(at.join("model.gguf")).unwrap().len();
    let folders = std::fs::read_dir(folder.path().join("reports/words")).unwrap().map(|e| e.unwrap().path().join("artifacts"));
    let smallest = folders.map(|at| sizes(&at)).min().unwrap();
    // 263 rows of 64 floats, and the same in blocks of 34 bytes.
    assert_eq!(gguf.len() as u64 - smallest, 263 * 64 * 4 - (263u64 * 2 * 34).next_multiple_of(32), "{} {smallest}", gguf.len());
}

#[test]
fn formats_that_a_file_lacks_are_refused_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    write_language(folder.path());
    let head = "layers: [{ match: lm_head, weights: none }]";
    let cases = [
        (format!("weights: uint4/group:32, activations: none, {head}"), "gguf", "have no zero"),
        (format!("weights: int4/group:48, activations: none, {head}"), "gguf", "group:32"),
        (format!("weights: int4/group:48, activations: none, {head}"), "compressed-tensors", "`group:32`"),
        ("weights: int4/group:32, activations: none".to_string(), "compressed-tensors", "tied to the embeddings"),
        (format!("weights: uint8, activations: none, {head}"), "compressed-tensors", "it has no zero points"),
        (format!("weights: int4/group:32, {head}"), "gguf", "write `activations: none`"),
        (format!("weights: int4/group:32, activations: dynamic, {head}"), "compressed-tensors", "write `activations: none`"),
        (
            format!("weights: int4/group:32, activations: none, {head} }}\n  - prune: {{ blocks: 1"),
            "gguf",
            "a stage removes some of it",
        ),
    ];
    for (recipe, export, word) in cases {
        let output = run(folder.path(), &recipe, export);
        let text = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{recipe}: {text}");
        assert!(text.contains(word), "{recipe}: `{word}` is not in: {text}");
    }
    // A tokenizer that llama.cpp has no name for.
    let tokenizer = folder.path().join("model/tokenizer.json");
    let split = r#""pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[A-Z]|\\p{N}|x"}},"#;
    let text = std::fs::read_to_string(&tokenizer).unwrap();
    let begin = text.find(r#""pre_tokenizer":{"#).unwrap();
    let end = begin + text[begin..].find('}').unwrap() + 1;
    let old = &text[begin + r#""pre_tokenizer":"#.len()..end];
    std::fs::write(&tokenizer, format!("{}{split}{old}]}}{}", &text[..begin], &text[end..])).unwrap();
    let output = run(folder.path(), &format!("weights: int4/group:32, activations: none, {head}"), "gguf");
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cuts text before merging") || said.contains("no tokenizer that can be read"), "{said}");
    assert!(!folder.path().join("reports").exists());
}

/// A prompt may be cut and padded; a text is not.
#[test]
fn texts_are_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    write_language(folder.path());
    let windows = || {
        let mut config: sinter_data::DataConfig = parse(&std::fs::read_to_string(folder.path().join("data.yaml")).unwrap());
        config.rebase(folder.path());
        sinter_data::Dataset::open(&config).unwrap().test.len()
    };
    let whole = windows();
    let cut = r#""truncation":{"direction":"Right","max_length":200,"strategy":"LongestFirst","stride":0}"#;
    edit(&folder.path().join("model"), "tokenizer.json", |text| text.replace(r#""truncation":null"#, cut));
    assert!(whole > 50);
    assert_eq!(windows(), whole);
}

#[test]
fn wrong_texts_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    write_language(folder.path());
    let at = folder.path();
    let data = std::fs::read_to_string(at.join("data.yaml")).unwrap();
    let refused = |text: &str, word: &str| {
        std::fs::write(at.join("data.yaml"), text).unwrap();
        let output = run(at, "weights: int8/channel", "packed");
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word), "`{word}` is not in: {said}");
    };
    refused(&data.replace("tokens: 64", "tokens: 64000"), "fewer than one window of 64000");
    refused(&data.replace("tokens: 64", "tokens: 300"), "at most 256 tokens");
    refused(&data.replace("tokens: 64", "tokens: 64, context: 64"), "leave none");
    refused(&data.replace("task: language", "task: segment"), "`task: language`");
    refused(&data.replace("tokenizer.json", "config.json"), "no tokenizer that can be read");
    // Another's tokenizer, or none, and no folder at all.
    let unnamed = data.replace(", tokenizer: model/tokenizer.json", "");
    std::fs::rename(at.join("model/tokenizer.json"), at.join("tokenizer.json")).unwrap();
    refused(&unnamed, "text needs a `tokenizer`");
    std::fs::rename(at.join("model"), at.join("elsewhere")).unwrap();
    refused(&data, "there is no folder model");
    std::fs::rename(at.join("elsewhere"), at.join("model")).unwrap();
    std::fs::rename(at.join("tokenizer.json"), at.join("model/tokenizer.json")).unwrap();
    std::fs::write(at.join("broken.txt"), b"the end\xff\xfe").unwrap();
    refused(&data.replace("path: train.txt", "path: broken.txt"), "no UTF-8 text (byte 7)");
}

/// How far the logits of a quantized model lie from the float model's, on average, over the text that was calibrated with.
fn moved(folder: &Path, rounding: &str) -> f64 {
    let pipeline = format!(
        "name: words\nseed: 3\nmodel: {{ huggingface: model }}\ndata: data.yaml\nmetrics: [kl]\nstages:\n{TRAIN}  - quantize: {{ weights: int3/group:32, \
         activations: none, rounding: {rounding}, samples: 128, layers: [{{ match: lm_head, weights: none }}] }}\nexport: [packed]\n"
    );
    std::fs::write(folder.join("words.yaml"), pipeline).unwrap();
    let output = sinter(folder, &["run", "words.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = String::from_utf8_lossy(&output.stdout).lines().find_map(|l| l.strip_prefix("report: ").map(PathBuf::from));
    let table = std::fs::read_to_string(folder.join(run.unwrap()).with_file_name("run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&table).unwrap();
    run["stages"][2]["value"].as_f64().unwrap()
}

/// Rounding each layer for what the rounded ones before it give, and toward what the float model gives, loses less.
#[test]
fn layers_make_up_for_those_before_them() {
    let folder = tempfile::tempdir().unwrap();
    write_language(folder.path());
    let nearest = moved(folder.path(), "nearest, scaling: []");
    let apart = moved(folder.path(), "{ gptq: { sequential: false } }");
    let sequential = moved(folder.path(), "{ gptq: { float_target: false } }");
    let all = moved(folder.path(), "gptq");
    eprintln!("{nearest} {apart} {sequential} {all}");
    assert!(all < apart && apart < nearest, "{nearest} {apart} {sequential} {all}");
}
