//! Every kind of wrong input: refused before anything runs, with its place and what to do.

use std::path::Path;

use sinter_fixtures::{sinter, write_bars, write_pipeline};

/// Runs a pipeline that must be refused: exit code 2, a message with the words, and nothing written.
fn refused(folder: &Path, rest: &str, words: &[&str]) {
    write_pipeline(folder, "wrong", rest);
    let output = sinter(folder, &["run", "wrong.yaml"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{rest}\n{text}");
    // The renderer breaks long lines.
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(flat.contains(word), "`{word}` is not in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
    assert!(!folder.join("reports").exists(), "a run was begun");
}

/// What the target can't tell is refused before anything runs.
#[test]
fn budgets_that_nobody_can_tell_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 40, 20);
    refused(folder.path(), "budget: { energy: 1 mJ }\nstages: []\n", &["energy", "generic", "cortex-m4.yaml"]);
    refused(folder.path(), "budget: { latency: fast }\nstages: []\n", &["number"]);
}

#[test]
fn wrong_keys_and_values_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 40, 20);
    let at = folder.path();
    refused(at, "stages:\n  - train: { epoch: 8 }\n", &["unknown key `epoch`", "wrong.yaml:6:14", "did you mean `epochs`?"]);
    refused(at, "stages:\n  - prun: { pattern: \"2:4\" }\n", &["unknown name `prun`", "wrong.yaml:6:5", "did you mean `prune`?"]);
    refused(at, "stages:\n  - train: { epochs: many }\n", &["expected a whole number", "wrong.yaml:6:22"]);
    refused(at, "stages:\n  - train: { lr: 1 }\n", &["the key `epochs` is missing", "wrong.yaml:6"]);
    refused(at, "stages:\n  - train: { epochs: 1, lr: -1 }\n", &["lr must be positive", "wrong.yaml:6:29"]);
    refused(at, "stages:\n  - prune: { structured: { ratio: 150% } }\n", &["1.5 is not between 0 and 1", "wrong.yaml:6:35"]);
    refused(at, "stages:\n  - prune: { pattern: \"4:2\" }\n", &["`4:2` is not a pattern", "wrong.yaml:6:23"]);
    refused(
        at,
        "stages:\n  - prune: { finetune: { epochs: 1 } }\n",
        &["exactly one of `structured`, `unstructured`, `pattern` and `blocks`"],
    );
    refused(at, "stages:\n  - cluster: { centroids: 1 }\n", &["between 2 and 65536", "wrong.yaml:6:27"]);
    refused(at, "stages:\n  - quantize: { weights: int99 }\n", &["`int99` is not a format", "wrong.yaml:6:26"]);
    refused(at, "stages:\n  - distill: { teacher: stage:tran }\n", &["names no earlier stage", "wrong.yaml:6:25"]);
    refused(
        at,
        "stages:\n  - prune: { unstructured: { sparsity: 50%, layers: [{ match: \"cnv*\", ratio: 10% }] } }\n",
        &["the layer pattern `cnv*` matches nothing", "the model's layers are fc1, fc2, fc3", "wrong.yaml:6:63"],
    );
    let stage = |text: &str| format!("stages:\n  - {text}\n");
    for (text, words) in [
        ("prune: { unstructured: { sparsity: 50% }, schedule: { cubic: {} } }", ["add `finetune", "wrong.yaml:6:57"]),
        (
            "prune: { pattern: \"2:4\", schedule: { cubic: {} }, finetune: { epochs: 1 } }",
            ["for single weights", "wrong.yaml:6:40"],
        ),
        (
            "prune: { unstructured: { sparsity: 50%, criterion: movement } }",
            ["only seen while the model trains", "wrong.yaml:6:56"],
        ),
        (
            "prune: { unstructured: { sparsity: 50%, criterion: obs, scope: global } }",
            ["each layer in one go", "wrong.yaml:6:56"],
        ),
        ("prune: { structured: { ratio: 50% }, criterion: wanda }", ["`criterion` goes with `pattern`", "wrong.yaml:6:53"]),
        ("prune: { unstructured: { sparsity: 50%, block: [0, 4] } }", ["at least one row", "wrong.yaml:6:52"]),
        ("prune: { structured: { ratio: 50%, scope: flops } }", ["unknown name `flops`", "wrong.yaml:6:47"]),
        ("cluster: { centroids: 4, budget: 4 KiB }", ["leave `centroids` out", "wrong.yaml:6:38"]),
        ("cluster: { scope: channel }", ["needs `centroids`", "wrong.yaml:6:14"]),
        ("cluster: { centroids: 4, entropy: 0.1 }", ["works while fine-tuning", "wrong.yaml:6:39"]),
        ("cluster: { centroids: 4, vector: 4, scope: shared }", ["go with `scope: layer`", "wrong.yaml:6:38"]),
        ("cluster: { budget: a lot }", ["does not start with a number", "wrong.yaml:6:24"]),
        ("quantize: { batch_norm: true }", ["write `mode: qat`", "wrong.yaml:6:29"]),
        ("quantize: { mode: qat, batch_norm: freeze }", ["true or false", "wrong.yaml:6:40"]),
        (
            "quantize: { mode: qat, batch_norm: true, finetune: { epochs: 1, batch_size: 1 } }",
            ["one sample has no variance", "wrong.yaml:6:81"],
        ),
    ] {
        refused(at, &stage(text), &words);
    }
    refused(at, "stages: [\n", &["wrong.yaml"]);
    refused(at, "stages: []\nmodel: { zoo: lenet55 }\n", &["unknown name `lenet55`", "did you mean `lenet5`?"]);
}

#[test]
fn missing_and_damaged_inputs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 40, 20);
    let at = folder.path();
    refused(at, "model: { onnx: nowhere.onnx }\nstages: []\n", &["nowhere.onnx", "No such file", "wrong.yaml:4:16"]);
    // A real file, cut off.
    let model = sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 12, 12], 4, 1).unwrap();
    let bytes = sinter_onnx::export(&model).unwrap();
    std::fs::write(at.join("cut.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    refused(at, "model: { onnx: cut.onnx }\nstages: []\n", &["not a complete ONNX file", "truncated"]);
    std::fs::write(at.join("text.onnx"), "this is no model").unwrap();
    refused(at, "model: { onnx: text.onnx }\nstages: []\n", &["text.onnx"]);
    // Another shape than the data's.
    let other = sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 28, 28], 4, 1).unwrap();
    std::fs::write(at.join("large.onnx"), sinter_onnx::export(&other).unwrap()).unwrap();
    refused(at, "model: { onnx: large.onnx }\nstages: []\n", &["[batch, 1, 28, 28]", "[1, 12, 12]", "wrong.yaml:4"]);
    refused(at, "model: { zoo: resnet8 }\nstages: []\ndata_: 1\n", &["unknown key `data_`"]);
    // NaN weights.
    let mut nan = model.copy();
    let bad = nan.weights["fc1.weight"].latent().copy() / 0.0 * 0.0;
    nan.weight_mut("fc1.weight").unwrap().set_latent(bad).unwrap();
    std::fs::write(at.join("nan.onnx"), sinter_onnx::export(&nan).unwrap()).unwrap();
    refused(at, "model: { onnx: nan.onnx }\nstages: []\n", &["weight `fc1.weight` holds NaN"]);
    // Data: empty, damaged, missing.
    write_bars(&at.join("empty"), 0, 0);
    std::fs::rename(at.join("empty/bars.yaml"), at.join("empty.yaml")).unwrap();
    std::fs::write(at.join("empty.yaml"), "name: none\nsource: { idx: { folder: empty } }\n").unwrap();
    let pipeline = |data: &str| format!("name: wrong\nmodel: {{ zoo: lenet-300-100 }}\ndata: {data}\nstages: []\n");
    let check = |data: &str, words: &[&str]| {
        std::fs::write(at.join("wrong.yaml"), pipeline(data)).unwrap();
        let output = sinter(at, &["run", "wrong.yaml"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        words.iter().for_each(|w| assert!(text.contains(w), "`{w}` is not in:\n{text}"));
        assert!(!at.join("reports").exists());
    };
    check("empty.yaml", &["it is empty: the header says [0, 12, 12]", "empty.yaml:2"]);
    check("nowhere.yaml", &["nowhere.yaml", "No such file", "wrong.yaml:3"]);
    std::fs::write(at.join("gone.yaml"), "name: gone\nsource: { idx: { folder: elsewhere } }\nhint: put them there\n").unwrap();
    check("gone.yaml", &["train-images-idx3-ubyte.gz is missing", "put them there", "gone.yaml:2"]);
    let images = std::fs::read(at.join("train-images-idx3-ubyte.gz")).unwrap();
    std::fs::write(at.join("train-images-idx3-ubyte.gz"), &images[..images.len() - 7]).unwrap();
    check("bars.yaml", &["the header promises", "bars.yaml:2"]);
}

#[test]
fn an_unsupported_model_lists_every_operator_at_once() {
    use prost::Message;
    use sinter_onnx::proto::ModelProto;
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 40, 20);
    let model = sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 12, 12], 4, 1).unwrap();
    let mut proto = ModelProto::decode(&sinter_onnx::export(&model).unwrap()[..]).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    for (i, node) in graph.node.iter_mut().filter(|n| n.op_type == "Relu").enumerate() {
        node.op_type = ["Fancy", "Fancier"][i].into();
    }
    std::fs::write(folder.path().join("odd.onnx"), proto.encode_to_vec()).unwrap();
    refused(folder.path(), "model: { onnx: odd.onnx }\nstages: []\n", &["2 nodes can't run", "Fancy `relu2`", "Fancier `relu3`"]);
}

#[test]
fn a_full_disk_is_an_error_and_no_artefact() {
    // /dev/full takes nothing: writing there fails as a full disk does.
    let error = sinter_model::write_whole_with(&std::env::temp_dir().join("sinter-full-test"), |_| {
        std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open("/dev/full")?, b"x")
    });
    assert!(error.unwrap_err().to_string().contains("No space left"));
    assert!(!std::env::temp_dir().join("sinter-full-test").exists());
}

#[test]
fn compare_and_unpack_refuse_what_is_no_run_and_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = sinter(folder.path(), &["compare", "nothing"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing is no run"));
    // A folder that is there is told what to name instead.
    for (command, wanted) in
        [("compare", "name what `sinter run` wrote"), ("inspect", "name a model in it, such as ./artifacts/model.sinter")]
    {
        let output = sinter(folder.path(), &[command, "."]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(wanted), "{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(folder.path().join("x.sinter"), b"SINTER\x02rest").unwrap();
    let output = sinter(folder.path(), &["unpack", "x.sinter"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("damaged or truncated"));
}
