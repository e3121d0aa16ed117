//! Pipelines on real data, once for each seed.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;
use crate::peers::Peers;
use crate::table::Table;

/// Runs every pipeline with every seed (what an earlier benchmark did is not done again) and prints one table.
pub fn all(peers: &Peers, sinter: &Path, out: &Path, seeds: &[u64], pipelines: &[PathBuf]) -> Outcome<()> {
    let heads = [
        "pipeline",
        "seed",
        "dense",
        "compressed",
        "points lost",
        "packed",
        "of float32 parameters",
        "float32 ONNX, xz -9e",
        "and zip",
        "MACs",
        "sparsity",
    ];
    let mut table = Table::new("pipelines; quality of the exported file in ONNX Runtime", &heads);
    for pipeline in pipelines {
        for seed in seeds {
            let run = run(sinter, out, pipeline, *seed)?;
            table.row(&row(peers, pipeline, *seed, &run)?);
        }
    }
    table.print();
    Ok(())
}

/// Runs a pipeline; the folder of the run.
pub fn run(sinter: &Path, out: &Path, pipeline: &Path, seed: u64) -> Outcome<PathBuf> {
    eprintln!("{} with seed {seed}", pipeline.display());
    let output = Command::new(sinter)
        .arg("run")
        .arg(pipeline)
        .arg("--seed")
        .arg(seed.to_string())
        .arg("--json")
        .arg("--out")
        .arg(out)
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed:\n{}", pipeline.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let folder = events.filter(|e| e["event"] == "run-finished").find_map(|e| e["folder"].as_str().map(PathBuf::from));
    folder.ok_or_else(|| format!("{} told of no folder", pipeline.display()).into())
}

fn row(peers: &Peers, pipeline: &Path, seed: u64, run: &Path) -> Outcome<Vec<String>> {
    let record: Value = serde_json::from_slice(&std::fs::read(run.join("run.json"))?)?;
    let stages = record["stages"].as_array().cloned().unwrap_or_default();
    // The float model is what stood before the first stage that compresses.
    let trained = stages.iter().skip(1).take_while(|s| s["what"].as_str().is_some_and(|w| w.starts_with("train"))).count();
    let (Some(dense), Some(last)) = (stages.get(trained), stages.last()) else { return Err("a run without stages".into()) };
    let measured = record["measured"].as_array().cloned().unwrap_or_default();
    let exported = measured.iter().find(|m| m["artifact"].as_str().is_some_and(|a| a.ends_with("model.onnx")));
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    let value = exported.map_or(f64::NAN, |m| number(&m["value"]));
    let packed = std::fs::metadata(run.join("artifacts/model.sinter"))?.len() as f64;
    let parameters = number(&dense["parameters"]) * 4.0;
    let mut cells = vec![
        pipeline.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        seed.to_string(),
        format!("{:.2} %", number(&dense["value"]) * 100.0),
        format!("{:.2} %", value * 100.0),
        format!("{:.2}", (number(&dense["value"]) - value) * 100.0),
        format!("{packed:.0} B"),
        format!("{:.1}x smaller", parameters / packed),
    ];
    for peer in peers.run("archive", &run.join("artifacts/model.onnx"), &[])? {
        let bytes = peer.value.unwrap_or(f64::NAN);
        cells.push(format!("{bytes:.0} B ({:.1}x)", parameters / bytes));
    }
    cells.push(format!("{:.2} M", number(&last["macs"]) / 1e6));
    cells.push(format!("{:.1} %", (1.0 - number(&last["nonzero"]) / number(&last["parameters"])) * 100.0));
    Ok(cells)
}
