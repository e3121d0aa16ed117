//! Several runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use maud::{Markup, html};
use sinter_model::{Bytes, Joules, Macs, write_whole};

use crate::charts::of_comparison;
use crate::error::ReportError;
use crate::page::{count, figure, frame, stage_text};
use crate::record::{RunRecord, StageRow};
use crate::scroll::scroll;

/// How deep runs are looked for in a folder: `reports/NAME/HASH`.
const DEPTH: usize = 3;

/// The runs that these folders are or hold, in the order of their names; a run that is named twice counts once. Errors name a folder in
/// which there is none.
pub fn find_runs(folders: &[PathBuf]) -> Result<Vec<RunRecord>, ReportError> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for folder in folders {
        let paths: Vec<PathBuf> = run_folders(folder).into_iter().filter(|path| path.join("run.json").is_file()).collect();
        if paths.is_empty() {
            // Says what is wrong with the folder itself.
            found.push(RunRecord::read(folder)?);
        }
        for path in paths {
            if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                found.push(RunRecord::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// The folders of runs in a folder, sorted, whether they are done or not.
pub fn run_folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(folder, DEPTH, &mut found);
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if ["run.json", "progress.json"].iter().any(|file| folder.join(file).is_file()) {
        return found.push(folder.to_path_buf());
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let mut inner: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_dir() && !hidden(p)).collect();
    inner.sort();
    if depth > 0 {
        inner.iter().for_each(|path| collect(path, depth - 1, found));
    }
}

/// A run and the model that it left.
struct Row<'a> {
    run: &'a RunRecord,
    last: StageRow,
}

/// The columns of `compare.csv`.
const CSV_COLUMNS: [&str; 13] = [
    "pipeline",
    "run",
    "seed",
    "metric",
    "value",
    "packed_bytes",
    "ratio",
    "parameters",
    "nonzero",
    "macs",
    "energy_floor_joules_estimate",
    "median_latency_ms",
    "seconds",
];

/// A column in which the least value is the best.
type Cost = fn(&Row) -> Option<f64>;

const COSTS: [Cost; 5] = [
    |r| Some(r.last.packed_bytes as f64),
    |r| Some(-r.run.metric.score(r.run.final_value())),
    |r| Some(r.last.macs as f64),
    |r| Some(r.last.energy_floor),
    |r| r.run.exported_latency(),
];

/// Writes `compare.html`, `compare.csv` and the charts of several runs into a folder. The best value of each column is marked.
pub fn write_comparison(records: &[RunRecord], folder: &Path) -> Result<(), ReportError> {
    let charts = of_comparison(records)?;
    for chart in &charts {
        write_whole(&folder.join(format!("{}.svg", chart.name)), chart.svg.as_bytes())?;
        write_whole(&folder.join(format!("{}.png", chart.name)), &chart.png)?;
    }
    let rows: Vec<Row> = records.iter().map(|run| Row { run, last: run.last().cloned().unwrap_or_default() }).collect();
    write_whole(&folder.join("compare.csv"), &csv(&rows)?)?;
    let body = html! {
        header { h1 { "Sinter · comparison" } p.answer { (answer(&rows)) } }
        main {
            (scroll("Runs", &table(&rows)))
            p.small { "The best of each column is marked. Quality is that of the exported file in its runtime where it was measured there. The grey stair in the charts is the front: runs that no other beats in both." }
            @for chart in &charts { (figure(chart)) }
            (differences(records))
            (stages(records))
        }
    };
    write_whole(&folder.join("compare.html"), frame("Comparison · Sinter", body).as_bytes())?;
    Ok(())
}

/// Which runs no other beats.
fn answer(rows: &[Row]) -> String {
    let smallest = rows.iter().min_by_key(|r| r.last.packed_bytes);
    let best = rows.iter().min_by(|a, b| COSTS[1](a).unwrap_or(0.0).total_cmp(&COSTS[1](b).unwrap_or(0.0)));
    match (smallest, best) {
        (Some(small), Some(best)) if !std::ptr::eq(small, best) => format!(
            "{} runs: {} is the smallest ({}, {}), {} the best ({}, {})",
            rows.len(),
            small.run.label(),
            Bytes(small.last.packed_bytes),
            small.run.metric.text(small.run.final_value()),
            best.run.label(),
            Bytes(best.last.packed_bytes),
            best.run.metric.text(best.run.final_value())
        ),
        (Some(both), _) => format!("{} runs: {} is the smallest and the best", rows.len(), both.run.label()),
        _ => "no run".into(),
    }
}

fn table(rows: &[Row]) -> Markup {
    let least = COSTS.map(|cost| rows.iter().filter_map(cost).fold(f64::INFINITY, f64::min));
    let mark = |row: &Row, column: usize| if COSTS[column](row) == Some(least[column]) { "n best" } else { "n" };
    let metrics: BTreeSet<&str> = rows.iter().map(|r| r.run.metric.name.as_ref()).collect();
    html! {
        table.sortable {
            thead { tr {
                th { "Run" } th { "Recipe" } th.n { "Packed" } th.n { "Smaller" } th.n { (metrics.into_iter().collect::<Vec<_>>().join(" / ")) } th.n { "Lost" }
                th.n { "Parameters" } th.n { "MACs" } th.n { "Energy floor, estimated" } th.n { "Median latency" } th { "Budget" } th.n { "Time" }
            } }
            tbody { @for row in rows { @let (r, s) = (row.run, &row.last); tr {
                td { (r.pipeline) br; small { (r.run) ", seed " (r.seed) } }
                td.wrap { (r.stages.iter().skip(1).map(|s| s.what.clone()).collect::<Vec<_>>().join(", then ")) }
                td class=(mark(row, 0)) data-v=(s.packed_bytes) { (Bytes(s.packed_bytes)) }
                td.n data-v=(r.ratio()) { (format!("{:.1}×", r.ratio())) }
                td class=(mark(row, 1)) data-v=(r.final_value()) { (r.metric.text(r.final_value())) }
                td.n { (r.loss_text(r.final_value())) }
                td.n data-v=(s.parameters) { (count(s.parameters)) }
                td class=(mark(row, 2)) data-v=(s.macs) { (Macs(s.macs)) }
                td class=(mark(row, 3)) data-v=(s.energy_floor) { (Joules(s.energy_floor)) }
                td class=(mark(row, 4)) data-v=(r.exported_latency().unwrap_or(f64::INFINITY)) { (r.exported_latency().map_or("not measured".into(), |t| format!("{t:.3} ms"))) }
                td { (verdict(r)) }
                td.n data-v=(r.seconds) { (format!("{:.0} s", r.seconds)) }
            } } }
        }
    }
}

fn verdict(record: &RunRecord) -> String {
    let missed: Vec<&str> = record.budget.iter().filter(|b| !b.met).map(|b| b.what.as_str()).collect();
    match (record.budget.is_empty(), missed.is_empty()) {
        (true, _) => "none".into(),
        (_, true) => "met".into(),
        _ => format!("missed: {}", missed.join(", ")),
    }
}

/// What differs in the configurations: a row a key, a column a run.
fn differences(records: &[RunRecord]) -> Markup {
    let flat: Vec<BTreeMap<String, String>> = records.iter().map(|r| flatten(&r.config)).collect();
    let keys: BTreeSet<&String> = flat.iter().flat_map(|f| f.keys()).collect();
    let differing: Vec<&String> = keys.into_iter().filter(|key| flat.iter().any(|f| f.get(*key) != flat[0].get(*key))).collect();
    let table = html! {
        table {
            thead { tr { th { "Key" } @for r in records { th { (r.label()) } } } }
            tbody { @for key in &differing { tr {
                td { code { (key) } }
                @for f in &flat { td { (f.get(*key).map_or("–", String::as_str)) } }
            } } }
        }
    };
    html! {
        section {
            h2 { "What differs in the recipes" }
            @if differing.is_empty() { p { "Nothing: the configurations are the same." } } @else { (scroll("Differences", &table)) }
        }
    }
}

/// A YAML document as `key.key[index]` to value. A stage is named by its kind: `stages[1].prune.pattern`.
fn flatten(yaml: &str) -> BTreeMap<String, String> {
    fn walk(path: String, value: &serde_yaml::Value, out: &mut BTreeMap<String, String>) {
        match value {
            serde_yaml::Value::Mapping(map) => {
                for (key, value) in map {
                    let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_string);
                    walk(if path.is_empty() { key } else { format!("{path}.{key}") }, value, out);
                }
            }
            serde_yaml::Value::Sequence(all) => {
                all.iter().enumerate().for_each(|(i, value)| walk(format!("{path}[{i}]"), value, out));
            }
            // A key without a value is as good as none.
            serde_yaml::Value::Null => {}
            other => {
                out.insert(path, serde_yaml::to_string(other).unwrap_or_default().trim().to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(String::new(), &serde_yaml::from_str(yaml).unwrap_or(serde_yaml::Value::Null), &mut out);
    out
}

/// The runs stage by stage.
fn stages(records: &[RunRecord]) -> Markup {
    let most = records.iter().map(|r| r.stages.len()).max().unwrap_or(0);
    let table = html! {
        table {
            thead { tr { th { "After" } @for r in records { th { (r.label()) } } } }
            tbody { @for i in 0..most { tr {
                td { (i) }
                @for r in records { td { @if let Some(s) = r.stages.get(i) { (s.stage) br; small { (stage_text(r, s)) } } } }
            } } }
        }
    };
    html! { section { h2 { "Stage by stage" } (scroll("Stage by stage", &table)) } }
}

/// One row a run.
fn csv(rows: &[Row]) -> Result<Vec<u8>, ReportError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |row: &[String]| writer.write_record(row).map_err(|e| ReportError::Comparison(e.to_string()));
    write(&CSV_COLUMNS.map(String::from))?;
    for Row { run: r, last: s } in rows {
        write(&[
            r.pipeline.clone(),
            r.run.clone(),
            r.seed.to_string(),
            r.metric.name.to_string(),
            r.final_value().to_string(),
            s.packed_bytes.to_string(),
            r.ratio().to_string(),
            s.parameters.to_string(),
            s.nonzero.to_string(),
            s.macs.to_string(),
            s.energy_floor.to_string(),
            r.exported_latency().map_or_else(String::new, |t| t.to_string()),
            r.seconds.to_string(),
        ])?;
    }
    writer.into_inner().map_err(|e| ReportError::Comparison(e.to_string()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn configurations_are_compared_key_by_key() {
        let flat = super::flatten("a: 1\nstages:\n- prune:\n    pattern: '2:4'\n    none: null\n");
        let keys: Vec<(&str, &str)> = flat.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(keys, [("a", "1"), ("stages[0].prune.pattern", "2:4")]);
    }
}
