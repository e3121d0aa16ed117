//! The command line from outside: a whole run, resuming, killing, and every kind of wrong input.

use std::path::Path;
use std::time::{Duration, Instant};

use sinter_report::RunRecord;
use sinter_tests::{ALL_STAGES, sinter, sinter_command, write_bars, write_pipeline};

fn only_run(folder: &Path, pipeline: &str) -> std::path::PathBuf {
    let runs: Vec<_> = std::fs::read_dir(folder.join("reports").join(pipeline)).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs[0].clone()
}

/// The figures of a run, without its times.
fn figures(record: &RunRecord) -> Vec<(String, u64, u64, f64)> {
    record.stages.iter().map(|s| (s.stage.clone(), s.packed_bytes, s.nonzero, s.value)).collect()
}

#[test]
fn a_run_leaves_everything_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 2000, 500);
    write_pipeline(folder.path(), "all", ALL_STAGES);
    let first = sinter(folder.path(), &["run", "all.yaml"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let run = only_run(folder.path(), "all");
    for file in [
        "run.json",
        "report.html",
        "stages.csv",
        "stages.parquet",
        "layers.csv",
        "layers.parquet",
        "curves.csv",
        "charts/size.png",
        "charts/size.svg",
        "charts/path.png",
        "artifacts/model.sinter",
        "artifacts/model.onnx",
        "artifacts/float.onnx",
        "checkpoints/1-train.safetensors",
        "checkpoints/6-quantize.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let record = RunRecord::read(&run).unwrap();
    let (float, last) = (record.float().unwrap(), record.last().unwrap());
    assert!(float.value > 0.8, "the float model learnt: {}", float.value);
    assert!(last.value > float.value - 0.1, "{} against {}", last.value, float.value);
    assert!(record.ratio() > 15.0, "{}", record.ratio());
    assert_eq!(last.packed_bytes, std::fs::metadata(run.join("artifacts/model.sinter")).unwrap().len());
    // The exported file was scored by ONNX Runtime, and agrees with the simulation.
    let measured = record.measured.iter().find(|m| m.artifact.ends_with("model.onnx")).unwrap();
    let value = measured.value.expect("measured in ONNX Runtime");
    assert!((value - measured.simulated).abs() <= 0.004, "{value} measured, {} simulated", measured.simulated);
    assert!(measured.latency_median.unwrap() > 0.0);
    // Structured pruning made shapes smaller, and each link of each weight is told.
    let fc2 = record.layers.iter().rfind(|l| l.layer == "fc2").unwrap();
    assert_eq!(fc2.shape, "70×210");
    assert!(fc2.encoding.contains("codebook") && fc2.encoding.contains("int8"), "{}", fc2.encoding);
    // Again: nothing is done twice, and the figures are the same.
    let started = Instant::now();
    let second = sinter(folder.path(), &["run", "all.yaml"]);
    assert!(second.status.success());
    assert!(started.elapsed() < Duration::from_secs(30));
    let text = String::from_utf8_lossy(&second.stdout).into_owned();
    assert_eq!(text.matches("from the cache").count(), 6, "{text}");
    assert_eq!(figures(&RunRecord::read(&run).unwrap()), figures(&record));
    // A pipeline that shares a prefix goes on from the last common stage.
    let shorter = ALL_STAGES.split("  - distill").next().unwrap();
    write_pipeline(folder.path(), "prefix", shorter);
    let third = sinter(folder.path(), &["run", "prefix.yaml", "--json"]);
    let events = String::from_utf8_lossy(&third.stdout).into_owned();
    assert_eq!(events.matches("stage-cached").count(), 4, "{events}");
    assert!(events.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
    // The packed file opens as ONNX, and runs compare.
    let unpacked = sinter(&run, &["unpack", "artifacts/model.sinter", "-o", "back.onnx"]);
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    assert_eq!(
        std::fs::read(run.join("back.onnx")).unwrap().len(),
        std::fs::read(run.join("artifacts/model.onnx")).unwrap().len()
    );
    let other = only_run(folder.path(), "prefix");
    let compared = sinter(folder.path(), &["compare", run.to_str().unwrap(), other.to_str().unwrap()]);
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let page = std::fs::read_to_string(folder.path().join("reports/compare/compare.html")).unwrap();
    assert!(page.contains("all") && page.contains("prefix") && page.contains("best"));
}

#[test]
fn every_figure_of_the_stage_table_is_in_the_parquet_and_on_the_page() {
    use polars::prelude::{ParquetReader, SerReader};
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 400, 200);
    write_pipeline(folder.path(), "short", "stages:\n  - train: { epochs: 1 }\n  - prune: { unstructured: { sparsity: 60% } }\n");
    assert!(sinter(folder.path(), &["run", "short.yaml", "--quiet"]).status.success());
    let run = only_run(folder.path(), "short");
    let record = RunRecord::read(&run).unwrap();
    let file = std::fs::File::open(run.join("stages.parquet")).unwrap();
    let table = ParquetReader::new(file).finish().unwrap();
    let column = |name: &str| table.column(name).unwrap().as_materialized_series().clone();
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for (i, stage) in record.stages.iter().enumerate() {
        assert_eq!(column("packed_bytes").u64().unwrap().get(i), Some(stage.packed_bytes));
        assert_eq!(column("value").f64().unwrap().get(i), Some(stage.value));
        assert!(page.contains(&record.value_text(stage.value)));
        assert!(page.contains(&sinter_model::Bytes(stage.packed_bytes).to_string()));
    }
    for fetches in ["src=\"http", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(fetches), "the page asks the network: {fetches}");
    }
}

#[test]
fn a_sensitivity_scan_is_told_and_remembered() {
    use polars::prelude::*;
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 400, 200);
    let stages = |share: u32| {
        format!(
            "stages:\n  - train: {{ epochs: 2 }}\n  - prune: {{ unstructured: {{ sparsity: {share}%, scope: sensitivity }} }}\nexport: [packed]\n"
        )
    };
    write_pipeline(folder.path(), "scan", &stages(70));
    assert!(sinter(folder.path(), &["run", "scan.yaml", "--quiet"]).status.success());
    let run = only_run(folder.path(), "scan");
    let record = RunRecord::read(&run).unwrap();
    let file = std::fs::File::open(run.join("sensitivity.parquet")).unwrap();
    assert_eq!(ParquetReader::new(file).finish().unwrap().height(), 3 * 7);
    assert!(run.join("charts/sensitivity.svg").exists());
    let last = record.last().unwrap();
    let pruned: f64 = record.layers.iter().filter(|l| l.stage_index == 2).map(|l| l.sparsity * l.parameters as f64).sum();
    let weights: f64 = record.layers.iter().filter(|l| l.stage_index == 2).map(|l| l.parameters as f64).sum();
    assert!((pruned / weights - 0.7).abs() < 0.01, "{last:?}");
    // Another share takes the curves of the first scan: a changed memory shows in it.
    let cache = folder.path().join("reports/.cache");
    let memory =
        std::fs::read_dir(cache).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().ends_with(".memory.json"));
    let memory = memory.unwrap();
    let text = std::fs::read_to_string(&memory).unwrap();
    let mut curves: serde_json::Value = serde_json::from_str(&text).unwrap();
    curves[0]["lost"] = serde_json::json!([9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]);
    std::fs::write(&memory, curves.to_string()).unwrap();
    std::fs::remove_dir_all(folder.path().join("reports/scan")).unwrap();
    write_pipeline(folder.path(), "scan", &stages(40));
    assert!(sinter(folder.path(), &["run", "scan.yaml", "--quiet"]).status.success());
    let told = RunRecord::read(&only_run(folder.path(), "scan")).unwrap().sensitivity;
    assert_eq!(told[0].lost, 9.0);
}

/// A budget is checked on the result: a verdict a line, exit code 3 when one is missed, and the layers that cost most.
#[test]
fn a_missed_budget_is_told_and_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 256, 64);
    let target = sinter_tests::root().join("configs/targets/cortex-m4.yaml");
    let stages = "stages:\n  - train: { epochs: 3, batch_size: 16 }\n  - quantize: {}\nexport: [onnx, c]\n";
    let rest = |budget: &str| format!("target: {}\nbudget: {budget}\n{stages}", target.display());
    write_pipeline(folder.path(), "kept", &rest("{ accuracy_drop: 20%, flash: 1 MiB, ram: 64 KiB, latency: 1 s, energy: 1 J }"));
    let output = sinter(folder.path(), &["run", "kept.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("(met)").count(), 5, "{text}");
    assert!(text.contains("fits cortex-m4 with"), "{text}");
    write_pipeline(folder.path(), "missed", &rest("{ flash: 10 KiB, ram: 16 B, latency: 1 us, energy: 1 nJ }"));
    let output = sinter(folder.path(), &["run", "missed.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("the budget is missed: flash, ram, latency, energy") && text.contains("most: fc1"), "{text}");
    let record = RunRecord::read(&only_run(folder.path(), "missed")).unwrap();
    assert!(record.budget.iter().all(|b| !b.met && !b.worst.is_empty()), "{:?}", record.budget);
    let page = std::fs::read_to_string(only_run(folder.path(), "missed").join("report.html")).unwrap();
    assert!(page.contains("missed") && page.contains("Budget"));
    // What the target can't tell is refused before anything runs.
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 40, 20);
    refused(folder.path(), "budget: { energy: 1 mJ }\nstages: []\n", &["energy", "generic", "cortex-m4.yaml"]);
    refused(folder.path(), "budget: { latency: fast }\nstages: []\n", &["number"]);
}

#[test]
fn another_seed_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 100, 50);
    write_pipeline(folder.path(), "seeds", "stages:\n  - train: { epochs: 1 }\nexport: [packed]\n");
    for seed in ["1", "2"] {
        assert!(sinter(folder.path(), &["run", "seeds.yaml", "--quiet", "--seed", seed]).status.success());
    }
    let runs = std::fs::read_dir(folder.path().join("reports/seeds")).unwrap();
    let seeds: Vec<u64> = runs.map(|r| RunRecord::read(&r.unwrap().path()).unwrap().seed).collect();
    assert!(seeds.len() == 2 && seeds.contains(&1) && seeds.contains(&2), "{seeds:?}");
}

#[test]
fn a_killed_run_ends_with_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 3000, 500);
    write_pipeline(folder.path(), "kill", ALL_STAGES);
    let undisturbed = sinter(folder.path(), &["run", "kill.yaml", "--out", "calm", "--quiet"]);
    assert!(undisturbed.status.success(), "{}", String::from_utf8_lossy(&undisturbed.stderr));
    // Killed twice, at different points: once early in training, once after some stage.
    for delay in [400, 1500] {
        let mut child = sinter_command(folder.path(), &["run", "kill.yaml", "--out", "rough", "--quiet"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let resumed = sinter(folder.path(), &["run", "kill.yaml", "--out", "rough", "--quiet"]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let read = |out: &str| {
        let runs: Vec<_> = std::fs::read_dir(folder.path().join(out).join("kill")).unwrap().map(|e| e.unwrap().path()).collect();
        (std::fs::read(runs[0].join("artifacts/model.sinter")).unwrap(), RunRecord::read(&runs[0]).unwrap())
    };
    let ((calm_file, calm), (rough_file, rough)) = (read("calm"), read("rough"));
    assert_eq!(figures(&calm), figures(&rough));
    assert!(calm_file == rough_file, "the packed files differ");
}

#[test]
fn a_damaged_checkpoint_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 300, 100);
    write_pipeline(folder.path(), "p", "stages:\n  - train: { epochs: 1 }\nexport: [packed]\n");
    assert!(sinter(folder.path(), &["run", "p.yaml", "--quiet"]).status.success());
    let before = figures(&RunRecord::read(&only_run(folder.path(), "p")).unwrap());
    for entry in std::fs::read_dir(folder.path().join("reports/.cache")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    let again = sinter(folder.path(), &["run", "p.yaml"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(figures(&RunRecord::read(&only_run(folder.path(), "p")).unwrap()), before);
}

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
    let model = sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 12, 12], 4).unwrap();
    let bytes = sinter_onnx::export(&model).unwrap();
    std::fs::write(at.join("cut.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    refused(at, "model: { onnx: cut.onnx }\nstages: []\n", &["not a complete ONNX file", "truncated"]);
    std::fs::write(at.join("text.onnx"), "this is no model").unwrap();
    refused(at, "model: { onnx: text.onnx }\nstages: []\n", &["text.onnx"]);
    // Another shape than the data's.
    let other = sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 28, 28], 4).unwrap();
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
    check("empty.yaml", &["data set `none` is empty", "empty.yaml:2"]);
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
    let model = sinter_model::zoo::ZooModel::Lenet300100.build(&[1, 12, 12], 4).unwrap();
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
