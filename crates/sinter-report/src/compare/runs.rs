//! Runs as a comparison: what differs in their recipes, and what they came to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rayon::prelude::*;
use sinter_model::{Bytes, Joules, Macs, Seconds};
use sinter_task::{Better, Metric};

use super::apart::Apart;
use super::details::{Details, flatten};
use super::find::{Found, Run};
use super::{Cell, Column, Comparison, Kind, Row, Scale, Table};
use crate::error::ReportError;
use crate::page::count;
use crate::record::{RunRecord, StageRow};
use crate::samples::Samples;

/// So many runs still stand beside each other in one table of what differs.
const MOST_BESIDE: usize = 8;
/// Runs that can be set side by side: what that takes is what makes a page large.
const MOST_DETAILS: usize = 200;
/// So many keys that differ are shown before anybody chose columns.
const MOST_KEYS: usize = 6;

/// Writes `compare.html`, `compare.csv` and the charts of several runs into a folder.
pub fn write_comparison(found: &Found, folder: &Path) -> Result<(), ReportError> {
    compare_runs(found, &|run| link(folder, &run.folder)).write(folder, "compare")
}

/// What a link has in percent signs.
const ADDRESS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path as a link has it: relative, what is neither letter, digit nor one of `-_.~` in percent signs.
pub fn address(path: &Path) -> String {
    let part = |part: Component| percent_encode(part.as_os_str().as_encoded_bytes(), ADDRESS).to_string();
    // A name such as `javascript:` must not stand at the front, whatever becomes of its colon.
    format!("./{}", path.components().map(part).collect::<Vec<_>>().join("/"))
}

/// Where the page of a run's folder is, seen from a page in another folder.
pub fn link(from: &Path, run: &Path) -> Option<String> {
    let base = from.canonicalize().or_else(|_| std::path::absolute(from)).ok()?;
    Some(address(&pathdiff::diff_paths(run.canonicalize().ok()?.join("report.html"), base)?))
}

/// Runs side by side; `link` tells where the page of each is.
pub fn compare_runs(found: &Found, link: &dyn Fn(&Run) -> Option<String>) -> Comparison {
    let runs = &found.runs[..];
    let configs: Vec<BTreeMap<String, String>> = runs.iter().map(|r| flatten(&r.record.config)).collect();
    let keys: BTreeSet<&String> =
        configs.iter().flat_map(|c| c.keys()).filter(|k| !["name", "seed"].contains(&k.as_str())).collect();
    let differing: Vec<&String> =
        keys.into_iter().filter(|key| configs.iter().any(|c| c.get(*key) != configs[0].get(*key))).collect();
    let metrics = metrics(runs);
    let stages = |run: &Run| run.record.stages.iter().map(|s| s.stage.clone()).collect::<Vec<_>>();
    // Where the stages are the same, the keys that differ tell a recipe better than its sentence.
    let alike = runs.len() > 1 && !differing.is_empty() && runs.windows(2).all(|w| stages(&w[0]) == stages(&w[1]));
    let mut columns = vec![column("run", "Run", Kind::About, true), column("recipe", "Recipe", Kind::About, !alike)];
    let names = short(&differing);
    columns
        .extend(differing.iter().zip(&names).enumerate().map(|(i, (key, name))| column(key, name, Kind::Recipe, i < MOST_KEYS)));
    columns.extend(metrics.iter().map(|(metric, leads)| Column {
        scale: Scale::Metric(metric.clone()),
        better: Some(metric.better),
        ..column(&metric.name, &metric.name, Kind::Figure, *leads)
    }));
    let one_metric = one_metric(runs);
    columns.extend(FIGURES.iter().map(|f| Column {
        scale: match (f.key, metrics.first()) {
            (LOST, Some((metric, _))) if one_metric => Scale::Metric(metric.clone()),
            _ => f.scale.clone(),
        },
        better: f.better,
        ..column(f.key, f.name, Kind::Figure, f.shown)
    }));
    columns.extend(ABOUT.iter().map(|(key, name, _)| column(key, name, Kind::About, false)));
    let rows = runs.iter().zip(&configs).enumerate().map(|(i, (run, config))| {
        let record = &run.record;
        let last = record.last().cloned().unwrap_or_default();
        let what = record.stages.iter().skip(1).map(|s| s.what.clone()).collect::<Vec<_>>().join(", then ");
        let mut cells = vec![Cell::text(record.label()), Cell::text(what)];
        cells.extend(differing.iter().map(|key| config.get(*key).map_or_else(Cell::default, |v| Cell::of_recipe(v))));
        cells.extend(metrics.iter().map(|(metric, _)| quality(record, metric)));
        cells.extend(FIGURES.iter().map(|f| match (f.key, (f.of)(record, &last)) {
            // Points of one metric and differences of another are no numbers of one column.
            (LOST, cell) if !one_metric => Cell::text(cell.text),
            (_, cell) => cell,
        }));
        cells.extend(ABOUT.iter().map(|(_, _, of)| of(record)));
        Row {
            name: record.label(),
            link: link(run),
            cells,
            curves: curves(record),
            details: (i < MOST_DETAILS).then(|| Details::of(record, config.clone())),
        }
    });
    let few = runs.len() <= MOST_DETAILS;
    let read = |run: &Run| if few { Samples::read(&run.folder) } else { None };
    let samples: Vec<Option<Samples>> = runs.par_iter().map(read).collect();
    let same_data = runs.windows(2).all(|w| w[0].record.data == w[1].record.data);
    let classes = runs.first().map(|r| r.record.classes.clone()).unwrap_or_default();
    let mut all = Comparison {
        title: "Comparison".into(),
        answer: answer(runs),
        columns,
        rows: rows.collect(),
        notes: vec![
            "The best of each column is marked. Quality is that of the exported file in its runtime where it was measured there, on the test split; energy is the \
             estimated floor."
                .into(),
        ],
        tables: tables(runs, &differing, &configs),
        apart: if same_data && one_metric { Apart::of(&samples, &classes) } else { None },
    };
    all.notes.extend(found.unread.iter().map(|reason| format!("Left out: {reason}.")));
    all.tidy();
    all
}

fn column(key: &str, name: &str, kind: Kind, shown: bool) -> Column {
    Column { key: key.into(), name: name.into(), kind, scale: Scale::Plain, better: None, shown }
}

/// Keys such as `stages[1].prune.pattern` as `prune.pattern`, where no other key is called so then.
fn short(keys: &[&String]) -> Vec<String> {
    let bare =
        |key: &str| key.strip_prefix("stages[").and_then(|rest| rest.split_once("].")).map_or(key.to_string(), |(_, k)| k.into());
    let all: Vec<String> = keys.iter().map(|key| bare(key)).collect();
    let alone = |name: &String| all.iter().filter(|other| *other == name).count() == 1;
    keys.iter().zip(&all).map(|(key, name)| if alone(name) { name.clone() } else { key.replacen("stages", "", 1) }).collect()
}

/// A figure of a run.
struct Figure {
    key: &'static str,
    name: &'static str,
    scale: Scale,
    better: Option<Better>,
    shown: bool,
    of: fn(&RunRecord, &StageRow) -> Cell,
}

/// Of the float model's quality.
const LOST: &str = "lost";
const LOWER: Option<Better> = Some(Better::Lower);

const FIGURES: [Figure; 13] = [
    Figure { key: LOST, name: "Lost", scale: Scale::Plain, better: None, shown: true, of: |r, _| lost(r) },
    Figure {
        key: "packed_bytes",
        name: "Packed",
        scale: Scale::Bytes,
        better: LOWER,
        shown: true,
        of: |_, s| Cell::number(s.packed_bytes as f64, Bytes(s.packed_bytes).to_string()),
    },
    Figure {
        key: "ratio",
        name: "Smaller",
        scale: Scale::Plain,
        better: Some(Better::Higher),
        shown: true,
        of: |r, _| Cell::number(r.ratio(), format!("{:.1}×", r.ratio())),
    },
    Figure {
        key: "parameters",
        name: "Parameters",
        scale: Scale::Plain,
        better: LOWER,
        shown: false,
        of: |_, s| Cell::number(s.parameters as f64, count(s.parameters)),
    },
    Figure {
        key: "nonzero",
        name: "Not zero",
        scale: Scale::Plain,
        better: LOWER,
        shown: false,
        of: |_, s| Cell::number(s.nonzero as f64, count(s.nonzero)),
    },
    Figure {
        key: "macs",
        name: "MACs",
        scale: Scale::Plain,
        better: LOWER,
        shown: true,
        of: |_, s| Cell::number(s.macs as f64, Macs(s.macs).to_string()),
    },
    Figure {
        key: "energy_floor_joules_estimate",
        name: "Energy floor, estimated",
        scale: Scale::Joules,
        better: LOWER,
        shown: true,
        of: |_, s| Cell::number(s.energy_floor, Joules(s.energy_floor).to_string()),
    },
    Figure {
        key: "energy_joules_estimate",
        name: "Energy on the board, estimated",
        scale: Scale::Joules,
        better: LOWER,
        shown: false,
        of: |_, s| Cell::maybe(s.energy_middle, |v| Joules(v).to_string()),
    },
    Figure {
        key: "latency_seconds_estimate",
        name: "Latency on the board, estimated",
        scale: Scale::Seconds,
        better: LOWER,
        shown: false,
        of: |_, s| Cell::maybe(s.latency_middle, |v| Seconds(v).to_string()),
    },
    Figure {
        key: "ram_bytes_estimate",
        name: "Activations, estimated",
        scale: Scale::Bytes,
        better: LOWER,
        shown: false,
        of: |_, s| Cell::maybe(Some(s.ram as f64).filter(|b| *b > 0.0), |_| Bytes(s.ram).to_string()),
    },
    Figure {
        key: "flash_bytes_estimate",
        name: "Weights on a device",
        scale: Scale::Bytes,
        better: LOWER,
        shown: false,
        of: |_, s| Cell::maybe(Some(s.flash as f64).filter(|b| *b > 0.0), |_| Bytes(s.flash).to_string()),
    },
    Figure {
        key: "median_latency_seconds",
        name: "Median latency in ONNX Runtime",
        scale: Scale::Seconds,
        better: LOWER,
        shown: true,
        of: |r, _| Cell::maybe(r.exported_latency().map(|ms| ms * 1e-3), |v| format!("{:.3} ms", v * 1e3)),
    },
    Figure { key: "budget", name: "Budget", scale: Scale::Plain, better: None, shown: true, of: |r, _| Cell::text(verdict(r)) },
];

type Of = fn(&RunRecord) -> Cell;

const ABOUT: [(&str, &str, Of); 8] = [
    ("seconds", "Time", |r| Cell::number(r.seconds, format!("{:.0} s", r.seconds))),
    ("seed", "Seed", |r| Cell::number(r.seed as f64, r.seed.to_string())),
    ("model", "Model", |r| Cell::text(&r.model)),
    ("data", "Data", |r| Cell::text(&r.data)),
    ("target", "Target", |r| Cell::text(&r.target)),
    ("started", "Started", |r| Cell::text(&r.started)),
    ("machine", "Machine", |r| Cell::text(&r.machine)),
    ("version", "Sinter", |r| Cell::text(&r.version)),
];

/// How much worse than the float model, the less the better, as text.
fn lost(record: &RunRecord) -> Cell {
    let Some(float) = record.float() else { return Cell::default() };
    let value = record.final_value();
    Cell::number(record.metric.gain(value, float.value), record.loss_text(value))
}

/// All metrics of the runs, and whether each leads in some run.
fn metrics(runs: &[Run]) -> Vec<(Metric, bool)> {
    let leading = runs.iter().map(|r| (r.record.metric.clone(), true));
    let beside = runs.iter().flat_map(|r| r.record.quality.iter().map(|q| (q.metric.clone(), false)));
    let mut all: Vec<(Metric, bool)> = Vec::new();
    for (metric, leads) in leading.chain(beside) {
        if !all.iter().any(|(known, _)| known.name == metric.name) {
            all.push((metric, leads));
        }
    }
    all
}

/// What a run scores by a metric.
fn quality(record: &RunRecord, metric: &Metric) -> Cell {
    let value = match record.metric.name == metric.name {
        true => Some(record.final_value()),
        false => record.quality.iter().find(|q| q.metric.name == metric.name).map(|q| q.result.value),
    };
    Cell::maybe(value, |v| metric.text(v))
}

fn curves(record: &RunRecord) -> BTreeMap<String, Vec<(f64, f64)>> {
    let at = |i: usize| i as f64 + 1.0;
    let loss = record.curves.iter().enumerate().map(|(i, row)| (at(i), row.loss)).collect::<Vec<_>>();
    let value = record.curves.iter().enumerate().filter_map(|(i, row)| Some((at(i), row.value?))).collect::<Vec<_>>();
    let all = [("training loss".to_string(), loss), (format!("{} on validation", record.metric.name), value)];
    all.into_iter().filter(|(_, points)| !points.is_empty()).collect()
}

/// Whether all are led by the same metric.
fn one_metric(runs: &[Run]) -> bool {
    runs.windows(2).all(|w| w[0].record.metric == w[1].record.metric)
}

/// The smallest and the best.
fn answer(runs: &[Run]) -> String {
    let size = |run: &Run| run.record.last().map_or(0, |s| s.packed_bytes);
    let score = |run: &Run| run.record.metric.score(run.record.final_value());
    let told = |run: &Run| format!("{}, {}", Bytes(size(run)), run.record.metric.text(run.record.final_value()));
    let smallest = runs.iter().min_by_key(|r| size(r));
    let best = runs.iter().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|_| one_metric(runs));
    let runs_of = |n: usize| if n == 1 { "1 run".to_string() } else { format!("{n} runs") };
    match (smallest, best) {
        (None, _) => "no run".into(),
        (Some(small), None) => format!("{}: {} is the smallest ({})", runs_of(runs.len()), small.record.label(), told(small)),
        (Some(small), Some(best)) if std::ptr::eq(small, best) => {
            format!("{}: {} is the smallest and the best ({})", runs_of(runs.len()), small.record.label(), told(small))
        }
        (Some(small), Some(best)) => format!(
            "{}: {} is the smallest ({}), {} the best ({})",
            runs_of(runs.len()),
            small.record.label(),
            told(small),
            best.record.label(),
            told(best)
        ),
    }
}

fn verdict(record: &RunRecord) -> String {
    let missed: Vec<&str> = record.budget.iter().filter(|b| !b.met).map(|b| b.what.as_str()).collect();
    match (record.budget.is_empty(), missed.is_empty()) {
        (true, _) => String::new(),
        (_, true) => "met".into(),
        _ => format!("missed: {}", missed.join(", ")),
    }
}

/// What differs in the recipes, key by key, and what each stage left, where few runs are compared.
fn tables(runs: &[Run], differing: &[&String], configs: &[BTreeMap<String, String>]) -> Vec<Table> {
    if runs.len() > MOST_BESIDE {
        return vec![];
    }
    let head = |first: &str| std::iter::once(first.to_string()).chain(runs.iter().map(|r| r.record.label())).collect::<Vec<_>>();
    let dash = || "–".to_string();
    let keys = differing.iter().map(|key| {
        let each = configs.iter().map(|c| c.get(*key).cloned().unwrap_or_else(dash));
        std::iter::once(key.to_string()).chain(each).collect::<Vec<_>>()
    });
    let most = runs.iter().map(|r| r.record.stages.len()).max().unwrap_or(0);
    let stages = (0..most).map(|i| {
        let told = |s: &StageRow, r: &RunRecord| format!("{}: {}", s.stage, crate::page::stage_text(r, s));
        let each = runs.iter().map(|r| r.record.stages.get(i).map_or_else(String::new, |s| told(s, &r.record)));
        std::iter::once(i.to_string()).chain(each).collect::<Vec<_>>()
    });
    let nothing = if differing.is_empty() { "Nothing: the configurations are the same." } else { "" };
    vec![
        Table { title: "What differs in the recipes".into(), head: head("Key"), rows: keys.collect(), note: nothing.into() },
        Table { title: "Stage by stage".into(), head: head("After"), rows: stages.collect(), note: String::new() },
    ]
}
