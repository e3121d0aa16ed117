//! The page of a run.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sinter_model::{Bytes, Joules, Macs, Seconds};

use crate::chart::Chart;
use crate::record::{RunRecord, StageRow};
use crate::style::{CSS, SCRIPT};

/// The frame that every page shares.
pub(crate) fn frame(title: &str, body: Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(CSS)) }
            }
            body { (body) script { (PreEscaped(SCRIPT)) } }
        }
    }
    .into_string()
}

/// A chart with its caption; the picture is described in words for those who can't see it.
pub(crate) fn figure(chart: &Chart) -> Markup {
    let svg = accessible(chart);
    html! { figure { figcaption { (chart.title) } (PreEscaped(svg)) } }
}

/// The SVG with a role and a label, and a view box so that it scales.
fn accessible(chart: &Chart) -> String {
    let label = html! { (chart.describes) }.into_string().replace('"', "&quot;");
    chart.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1)
}

pub(crate) fn of_run(record: &RunRecord, charts: &[Chart]) -> String {
    let body = html! {
        header {
            h1 { "Sinter · " (record.pipeline) }
            p.answer { (record.summary) }
        }
        main {
            (facts(record))
            (budget(record))
            section {
                h2 { "Stages" }
                div.scroll tabindex="0" role="region" aria-label="Stages" { (stages(record)) }
                p.small {
                    "Size is the length of the packed file, written and read back. The metric (" (record.metric) ") is measured on the test split by Sinter's own "
                    "interpreter; what real runtimes measure stands below. Energy is an estimate: the floor counts arithmetic and bytes moved ("
                    (record.energy_source) ")"
                    @if let Some(board) = &record.board { "; the range is what boards need per multiply-accumulate (" (board.source) ")" }
                    "."
                }
            }
            @for chart in charts { (figure(chart)) }
            (measured(record))
            section {
                h2 { "Layers" }
                div.scroll tabindex="0" role="region" aria-label="Layers" { (layers(record)) }
            }
            section {
                @let compiled = record.artifacts.iter().any(|a| a.note.is_some());
                h2 { "Files" }
                div.scroll { table {
                    thead { tr { th { "File" } th { "What" } th.n { "Size" } @if compiled { th.n { "Flash" } th.n { "RAM" } th { "Compiled" } } } }
                    tbody { @for a in &record.artifacts { tr {
                        td { a href=(a.path) { (a.path) } } td.wrap { (a.what) } td.n { (Bytes(a.bytes)) }
                        @if compiled {
                            td.n { @if let Some(n) = a.flash { (Bytes(n)) } } td.n { @if let Some(n) = a.ram { (Bytes(n)) } }
                            td.wrap { @if let Some(note) = &a.note { (note) } }
                        }
                    } } }
                } }
            }
            @if !record.notes.is_empty() {
                section { h2 { "Notes of the run" } ul.small { @for note in &record.notes { li { (note) } } } }
            }
            section {
                h2 { "How to reproduce" }
                p { "Sinter " (record.version) ", seed " (record.seed) ", " (record.machine) ". Begun " (record.started) ", "
                    (format!("{:.0}", record.seconds)) " s. The pipeline with every default filled in:" }
                pre tabindex="0" { code { (record.config) } }
            }
        }
    };
    frame(&format!("{} · Sinter", record.pipeline), body)
}

fn facts(record: &RunRecord) -> Markup {
    let (Some(float), Some(last)) = (record.float(), record.last()) else { return html! {} };
    let measured = record.measured.iter().rev().find_map(|m| m.value.map(|v| (m, v)));
    html! {
        dl.facts {
            div { dt { "Packed size" } dd { (Bytes(last.packed_bytes)) small { "float32 ONNX " (Bytes(float.onnx_float_bytes)) } } }
            div { dt { (record.metric) } dd { (record.value_text(last.value)) small { "float " (record.value_text(float.value)) } } }
            @if let Some((row, value)) = measured {
                div { dt { (record.metric) " in " (row.runtime) } dd { (record.value_text(value)) small { (row.artifact) } } }
            }
            div { dt { "Multiply-accumulates" } dd { (Macs(last.macs)) small { "float " (Macs(float.macs)) } } }
            div { dt { "Parameters" } dd { (count(last.parameters)) small { (count(last.nonzero)) " not zero; float " (count(float.parameters)) } } }
            @if last.ram > 0 {
                div { dt { "Activation memory, estimated" } dd { (Bytes(last.ram)) small { "float " (Bytes(float.ram)) } } }
                div { dt { "Weights on a device" } dd { (Bytes(last.flash)) small { "float " (Bytes(float.flash)) } } }
            }
            @if let (Some(low), Some(high)) = (last.latency_low, last.latency_high) {
                div { dt { "Latency, estimated on " (record.target) } dd { (span(low, high)) small { "as published for its boards" } } }
            }
            div { dt { "Energy, estimated floor" } dd { (Joules(last.energy_floor)) small { "float " (Joules(float.energy_floor)) } } }
        }
    }
}

/// What was asked for, and whether it holds.
fn budget(record: &RunRecord) -> Markup {
    if record.budget.is_empty() {
        return html! {};
    }
    let missed = record.budget.iter().any(|b| !b.met);
    html! {
        section {
            h2 { "Budget" }
            div.scroll { table {
                thead { tr { th { "Of" } th.n { "At most" } th { "Is" } th { "Verdict" } @if missed { th { "What costs most" } } } }
                tbody { @for b in &record.budget { tr {
                    td { (b.what) } td.n { (b.limit) } td.wrap { (b.value) } td { @if b.met { "met" } @else { strong { "missed" } } }
                    @if missed { td.wrap { (b.worst.join(", ")) } }
                } } }
            } }
        }
    }
}

/// An interval of times, with the unit once where both have the same.
fn span(low: f64, high: f64) -> String {
    let (low, high) = (Seconds(low).to_string(), Seconds(high).to_string());
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, a)), Some((_, b))) if a == b => format!("{number}–{high}"),
        _ => format!("{low} – {high}"),
    }
}

pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

fn stages(record: &RunRecord) -> Markup {
    let energy = |s: &StageRow| match (s.energy_low, s.energy_high) {
        // The estimate does not deserve more digits.
        (Some(low), Some(high)) => format!("{:.0}–{:.0} µJ", low * 1e6, high * 1e6),
        _ => "–".into(),
    };
    html! {
        table {
            thead { tr {
                th { "Stage" } th { "What" } th.n { "Packed" } th.n { (record.metric) } th.n { "Parameters" } th.n { "Not zero" } th.n { "MACs" }
                th.n { "Energy floor" } th.n { "On " (record.target) } th.n { "Time" }
            } }
            tbody { @for s in &record.stages { tr {
                td { (s.stage) }
                td.wrap { (s.what) }
                td.n { (Bytes(s.packed_bytes)) }
                td.n { (record.value_text(s.value)) }
                td.n { (count(s.parameters)) }
                td.n { (count(s.nonzero)) }
                td.n { (Macs(s.macs)) }
                td.n { (Joules(s.energy_floor)) }
                td.n { (energy(s)) }
                td.n { @if s.cached { "cached" } @else { (format!("{:.1} s", s.seconds)) } }
            } } }
        }
    }
}

fn measured(record: &RunRecord) -> Markup {
    html! {
        section {
            h2 { "Measured in real runtimes" }
            div.scroll { table {
                thead { tr { th { "Artefact" } th { "Runtime" } th.n { (record.metric) ", measured" } th.n { "simulated" } th.n { "Median latency" } th.n { "95th percentile" } th.n { "Peak memory" } } }
                tbody { @for m in &record.measured { tr {
                    td { (m.artifact) }
                    td { (m.runtime) }
                    td.n { @match m.value { Some(v) => (record.value_text(v)), None => "not measured" } }
                    td.n { (record.value_text(m.simulated)) }
                    td.n { (m.latency_median.map_or("–".into(), |t| format!("{t:.3} ms"))) }
                    td.n { (m.latency_p95.map_or("–".into(), |t| format!("{t:.3} ms"))) }
                    td.n { (m.peak_memory.map_or("–".into(), |n| Bytes(n).to_string())) }
                } } }
            } }
            @for note in record.measured.iter().filter_map(|m| m.note.as_ref()) { p.small { (note) } }
            p.small { "Latency is of one sample on one thread of this machine; peak memory is what opening the file and one inference added to the process." (slower(record)) }
        }
    }
}

/// Says so when the quantized file is slower than the float one.
fn slower(record: &RunRecord) -> String {
    let of = |what: &str| record.measured.iter().find(|m| m.artifact.contains(what)).and_then(|m| m.latency_median);
    match (of("model.onnx"), of("float.onnx")) {
        (Some(ours), Some(float)) if ours > float => {
            format!(" The compressed file is slower than the float one here: {ours:.3} ms against {float:.3} ms.")
        }
        _ => String::new(),
    }
}

fn layers(record: &RunRecord) -> Markup {
    let last = record.last().map_or(0, |s| s.index);
    let float = record.float().map_or(0, |s| s.index);
    let before = |layer: &str| record.layers.iter().find(|l| l.stage_index == float && l.layer == layer);
    html! {
        table.sortable {
            thead { tr {
                th { "Layer" } th { "Kind" } th { "Shape" } th { "Was" } th { "Encoding" } th.n { "Parameters" } th.n { "Zeros" } th.n { "MACs" }
                th.n { "Packed" } th.n { "Was" }
            } }
            tbody { @for l in record.layers.iter().filter(|l| l.stage_index == last) {
                @let was = before(&l.layer);
                tr {
                    td { (l.layer) }
                    td { (l.kind) }
                    td { (l.shape) }
                    td { (was.map_or("", |w| w.shape.as_str())) }
                    td { (l.encoding) }
                    td.n data-v=(l.parameters) { (count(l.parameters)) }
                    td.n data-v=(l.sparsity) { (format!("{:.1} %", l.sparsity * 100.0)) }
                    td.n data-v=(l.macs) { (Macs(l.macs)) }
                    td.n data-v=(l.packed_bytes) { (Bytes(l.packed_bytes.round() as u64)) }
                    td.n data-v=(was.map_or(0.0, |w| w.packed_bytes)) { (was.map_or("–".into(), |w| Bytes(w.packed_bytes.round() as u64).to_string())) }
                }
            } }
        }
    }
}
