//! The charts of a run and of a comparison.

mod curves;
mod heat;
mod histograms;
mod pairs;
mod scatter;
mod spans;
mod steps;

use sinter_model::{Bytes, Joules, Seconds};
use sinter_task::Better;

use crate::chart::{Chart, render};
use crate::error::ReportError;
use crate::record::{LayerRow, RunRecord, StageRow};

use curves::Curves;
use heat::{Cell, Heat};
use histograms::Histograms;
use pairs::Pairs;
pub(crate) use scatter::{Point, Scatter};
use spans::Spans;
use steps::{Shape, Steps};

/// As wide as the page's text: a page that is narrower scrolls within a chart, and letters stay as large as those beside it.
const WIDTH: u32 = 1080;
/// Room for names at the left.
const LABEL_WIDTH: i32 = 210;
/// At most so many layers are drawn in bars and histograms: those that were largest. The table has all of them.
const MOST_LAYERS: usize = 24;
const MOST_HISTOGRAMS: usize = 12;
/// A map with more rows than this shows the largest layers only.
const MOST_ROWS: usize = 80;
const MOST_CLASSES: usize = 20;

/// The charts of one run, in the order of the page.
pub(crate) fn of_run(record: &RunRecord) -> Result<Vec<Chart>, ReportError> {
    let mut charts = Vec::new();
    charts.push(render(
        "size",
        "Packed size after each stage",
        &steps(record, |s| s.packed_bytes as f64, |v| Bytes(v as u64).to_string()),
    )?);
    if record.stages.len() > 1 {
        charts.push(render("quality", "Quality after each stage", &quality(record))?);
        charts.push(render("path", "Quality against size, stage by stage", &path(record))?);
    }
    charts.push(render(
        "energy",
        "Estimated energy floor per inference",
        &steps(record, |s| s.energy_floor, |v| Joules(v).to_string()),
    )?);
    let layers = layer_bytes(record);
    if !layers.labels.is_empty() {
        charts.push(render("layers", "Packed bytes of each layer, float and final", &layers)?);
        charts.push(render("map", "Zeros and bits of each layer, stage by stage", &map(record))?);
    }
    let weights = weights(record);
    if !weights.0.is_empty() {
        charts.push(render("weights", "How the weights lie", &weights)?);
    }
    if let Some([before, after]) = &record.confusion {
        charts.push(render(
            "classes",
            "Share of each class that is recognised, the worst hit first",
            &classes(record, before, after),
        )?);
        if before.len() <= MOST_CLASSES && before.len() == after.len() {
            charts.push(render("confusion", "What changed in the confusion matrix", &confusion(record, before, after))?);
        }
    }
    if !record.ranges.is_empty() {
        charts.push(render("ranges", "Ranges of quantized values", &spans(record))?);
    }
    if !record.curves.is_empty() {
        charts.push(render("training", "Training loss", &Curves::of_training(record))?);
    }
    for (bits, name, title) in [
        (false, "sensitivity", "What each layer loses when it alone is pruned"),
        (true, "sensitivity-bits", "What each layer loses when it alone has fewer bits"),
    ] {
        if record.sensitivity.iter().any(|s| s.bits == bits) {
            charts.push(render(name, title, &Curves::of_sensitivity(record, bits))?);
        }
    }
    if record.stages.len() > 1 {
        charts.push(render("time", "What each stage took", &times(record))?);
    }
    Ok(charts)
}

fn names(record: &RunRecord) -> Vec<String> {
    record.stages.iter().map(|s| s.stage.clone()).collect()
}

/// A cost after each stage.
fn steps(record: &RunRecord, get: impl Fn(&StageRow) -> f64, text: impl Fn(f64) -> String) -> Steps {
    let values: Vec<f64> = record.stages.iter().map(get).collect();
    Steps {
        labels: names(record),
        texts: values.iter().map(|v| text(*v)).collect(),
        changes: (0..values.len()).map(|i| if i == 0 { String::new() } else { change(values[i - 1], values[i]) }).collect(),
        values,
        shape: Shape::Shadow,
        base: 0.0,
        better: Better::Lower,
    }
}

/// How a cost changed, in percent; empty where it did not.
pub(crate) fn change(before: f64, after: f64) -> String {
    let share = after / before - 1.0;
    if !share.is_finite() || share.abs() < 5e-4 {
        return String::new();
    }
    format!("{}{:.1} %", if share < 0.0 { "−" } else { "+" }, share.abs() * 100.0)
}

/// The metric after each stage that has something to lose.
fn quality(record: &RunRecord) -> Steps {
    // An untrained model would squeeze all others into a corner.
    let stages = &record.stages[record.float().map_or(0, |f| f.index).min(record.stages.len() - 1)..];
    let values: Vec<f64> = stages.iter().map(|s| record.metric.scaled(s.value)).collect();
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    let unit = record.metric.scaled(record.metric.notable(high));
    Steps {
        labels: stages.iter().map(|s| s.stage.clone()).collect(),
        texts: stages.iter().map(|s| record.metric.text(s.value)).collect(),
        changes: (0..values.len())
            .map(|i| if i == 0 { String::new() } else { step(record, stages[i - 1].value, stages[i].value) })
            .collect(),
        values,
        shape: Shape::Floating,
        base: (low - (high - low).max(unit)).max(f64::MIN_POSITIVE),
        better: record.metric.better,
    }
}

/// How the metric changed from one stage to the next; empty where it did not.
fn step(record: &RunRecord, before: f64, after: f64) -> String {
    if before == after { String::new() } else { record.metric.step_text(before, after).replace('-', "−") }
}

fn path(record: &RunRecord) -> Scatter {
    let stages = record.stages.iter().skip(record.float().map_or(0, |f| f.index));
    let point = |s: &StageRow| Point {
        cost: s.packed_bytes as f64 / 1024.0,
        quality: record.metric.scaled(s.value),
        label: s.stage.clone(),
        tip: format!("{}: {}, {}", s.stage, Bytes(s.packed_bytes), record.metric.text(s.value)),
        color: 0,
    };
    Scatter {
        points: stages.map(point).collect(),
        x: "packed size, KiB (logarithmic)".into(),
        metric: record.metric.clone(),
        joined: true,
        front: false,
    }
}

fn times(record: &RunRecord) -> Steps {
    let mut plot = steps(record, |s| s.seconds, |v| Seconds(v).to_string());
    // Times do not follow from one another.
    plot.changes.iter_mut().for_each(String::clear);
    Steps { shape: Shape::Plain, ..plot }
}

/// The layers after one stage.
fn layers_of(record: &RunRecord, stage: usize) -> impl Iterator<Item = &LayerRow> {
    record.layers.iter().filter(move |l| l.stage_index == stage)
}

/// Names of the layers that are left, in the order of the graph; of too many, those that were largest.
fn largest(record: &RunRecord, most: usize) -> Vec<&str> {
    let last = record.last().map_or(0, |s| s.index);
    let float = record.float().map_or(0, |s| s.index);
    let mut order: Vec<&str> = layers_of(record, last).map(|l| l.layer.as_str()).collect();
    if order.len() > most {
        let size = |name: &str| layers_of(record, float).find(|l| l.layer == name).map_or(0.0, |l| l.packed_bytes);
        let mut ranked: Vec<(&str, f64)> = order.iter().map(|name| (*name, size(name))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(most);
        order.retain(|name| ranked.iter().any(|(kept, _)| kept == name));
    }
    order
}

fn layer_bytes(record: &RunRecord) -> Pairs {
    let float = record.float().map_or(0, |s| s.index);
    let last = record.last().map_or(0, |s| s.index);
    let find = |stage: usize, name: &str| layers_of(record, stage).find(|l| l.layer == name).map_or(0.0, |l| l.packed_bytes);
    let order = largest(record, MOST_LAYERS);
    Pairs {
        before: order.iter().map(|l| find(float, l)).collect(),
        after: order.iter().map(|l| find(last, l)).collect(),
        labels: order.into_iter().map(str::to_string).collect(),
        text: |v| Bytes(v.round() as u64).to_string(),
        logarithmic: true,
    }
}

/// Zeros as shade, bits as words; layers by stages.
fn map(record: &RunRecord) -> Heat {
    let stages = &record.stages[record.float().map_or(0, |f| f.index).min(record.stages.len().saturating_sub(1))..];
    let rows = largest(record, MOST_ROWS);
    let cell = |name: &str, stage: &StageRow| match layers_of(record, stage.index).find(|l| l.layer == name) {
        Some(l) => Cell {
            shade: l.sparsity,
            text: format!("{} b", bits(l.bits)),
            tip: format!(
                "{name} after {}: {:.1} % zeros, {} bits a weight, {}",
                stage.stage,
                l.sparsity * 100.0,
                bits(l.bits),
                l.encoding
            ),
        },
        None => Cell { shade: 0.0, text: "gone".into(), tip: format!("{name} is gone after {}", stage.stage) },
    };
    Heat {
        cells: rows.iter().map(|name| stages.iter().map(|s| cell(name, s)).collect()).collect(),
        rows: rows.iter().map(|r| r.to_string()).collect(),
        columns: stages.iter().map(|s| s.stage.clone()).collect(),
        legend: "the darker, the more zeros; b: bits of a stored weight before entropy coding".into(),
    }
}

/// Whole bits without a point.
fn bits(bits: f64) -> String {
    if bits.fract() == 0.0 { format!("{bits:.0}") } else { format!("{bits:.1}") }
}

fn weights(record: &RunRecord) -> Histograms<'_> {
    let kept = largest(record, MOST_HISTOGRAMS);
    Histograms(record.weights.iter().filter(|w| kept.contains(&w.layer.as_str())).collect())
}

/// The values that calibration looked at; those that only move have the range of another.
fn spans(record: &RunRecord) -> Spans<'_> {
    let seen = record.ranges.iter().any(|r| r.seen_low.is_some());
    Spans(record.ranges.iter().filter(|r| !seen || r.seen_low.is_some()).take(MOST_ROWS).collect())
}

/// Of each class, the share of its samples that is recognised.
pub(crate) fn recalls(confusion: &[Vec<u32>]) -> Vec<f64> {
    let share = |(i, row): (usize, &Vec<u32>)| {
        let all: u32 = row.iter().sum();
        f64::from(row.get(i).copied().unwrap_or(0)) / f64::from(all.max(1))
    };
    confusion.iter().enumerate().map(share).collect()
}

/// The classes by what they lost, the most first.
pub(crate) fn worst_hit(before: &[f64], after: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..before.len().min(after.len())).collect();
    order.sort_by(|&a, &b| (before[b] - after[b]).total_cmp(&(before[a] - after[a])));
    order
}

fn classes(record: &RunRecord, before: &[Vec<u32>], after: &[Vec<u32>]) -> Pairs {
    let (before, after) = (recalls(before), recalls(after));
    let mut order = worst_hit(&before, &after);
    order.truncate(MOST_CLASSES);
    Pairs {
        labels: order.iter().map(|&i| record.class(i)).collect(),
        before: order.iter().map(|&i| before[i] * 100.0).collect(),
        after: order.iter().map(|&i| after[i] * 100.0).collect(),
        text: |v| format!("{v:.1} %"),
        logarithmic: false,
    }
}

/// Of each label, how many more or fewer samples go to each class.
fn confusion(record: &RunRecord, before: &[Vec<u32>], after: &[Vec<u32>]) -> Heat {
    let change = |r: usize, c: usize| i64::from(after[r][c]) - i64::from(before[r][c]);
    let n = before.len();
    let most = (0..n).flat_map(|r| (0..n).map(move |c| (r, c))).map(|(r, c)| change(r, c).abs()).max().unwrap_or(1).max(1);
    let cell = |r: usize, c: usize| {
        let moved = change(r, c);
        let (label, class) = (record.class(r), record.class(c));
        // More on the diagonal is good, more beside it is not.
        let good = if r == c { moved } else { -moved };
        Cell {
            shade: good as f64 / most as f64,
            text: if moved == 0 { String::new() } else { format!("{moved:+}") },
            tip: format!("{label} taken for {class}: {} before, {} after", before[r][c], after[r][c]),
        }
    };
    Heat {
        rows: (0..n).map(|r| record.class(r)).collect(),
        columns: (0..n).map(|c| record.class(c)).collect(),
        cells: (0..n).map(|r| (0..n).map(|c| cell(r, c)).collect()).collect(),
        legend: "rows: labels; columns: what the model says; blue is better, orange worse".into(),
    }
}
