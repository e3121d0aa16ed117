//! The command line from outside: a whole run, resuming, killing.

use std::time::{Duration, Instant};

use sinter_fixtures::{ALL_STAGES, figures, only_run, sinter, sinter_command, write_bars, write_pipeline};
use sinter_report::RunRecord;

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
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join("run.json")).unwrap()).unwrap();
    assert_eq!((&stored["metric"], &stored["metric_facts"]["unit"]), (&"accuracy".into(), &"percent".into()));
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
        assert!(page.contains(&record.metric.text(stage.value)));
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
    // Whether a run measured layers, by what it told.
    let measures = || {
        let run = sinter(folder.path(), &["run", "scan.yaml", "--json"]);
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).contains(r#""what":"sensitivity""#)
    };
    assert!(measures(), "the first run has nothing to take curves from");
    let run = only_run(folder.path(), "scan");
    let record = RunRecord::read(&run).unwrap();
    let file = std::fs::File::open(run.join("sensitivity.parquet")).unwrap();
    assert_eq!(ParquetReader::new(file).finish().unwrap().height(), 3 * 7);
    assert!(run.join("charts/sensitivity.svg").exists());
    let last = record.last().unwrap();
    let pruned: f64 = record.layers.iter().filter(|l| l.stage_index == 2).map(|l| l.sparsity * l.parameters as f64).sum();
    let weights: f64 = record.layers.iter().filter(|l| l.stage_index == 2).map(|l| l.parameters as f64).sum();
    assert!((pruned / weights - 0.7).abs() < 0.01, "{last:?}");
    // Another share takes the curves of the first scan: it adds a result, and no memory.
    let memories = || {
        let listed = sinter(folder.path(), &["cache", "list", "--json"]);
        let all: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        all.as_array().unwrap().iter().filter(|e| e["kind"] == "memory").count()
    };
    assert_eq!(memories(), 1);
    std::fs::remove_dir_all(folder.path().join("reports/scan")).unwrap();
    write_pipeline(folder.path(), "scan", &stages(40));
    assert!(!measures(), "the curves of the first run were there");
    let again = RunRecord::read(&only_run(folder.path(), "scan")).unwrap().sensitivity;
    assert_eq!((memories(), again), (1, record.sensitivity));
}

/// A budget is checked on the result: a verdict a line, exit code 3 when one is missed, and the layers that cost most.
#[test]
fn a_missed_budget_is_told_and_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 256, 64);
    let target = sinter_fixtures::root().join("configs/targets/cortex-m4.yaml");
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
