//! The page of a run.

use maud::{Markup, PreEscaped, html};
use sinter_model::{Bytes, Joules, Macs, Seconds};

use crate::certified::certificate;
use crate::chart::Chart;
use crate::charts::{change, recalls, worst_hit};
use crate::dense::dense;
use crate::frame::frame;
use crate::judged;
use crate::record::{LayerRow, NpuRow, RunRecord, StageRow};
use crate::scroll::scroll;

/// A chart with its caption; the image is described in words for those who can't see it.
pub(crate) fn figure(chart: &Chart) -> Markup {
    html! { figure id=(chart.name) { figcaption { (chart.title) } div.image tabindex="0" role="region" aria-label=(chart.title) { (PreEscaped(accessible(chart))) } } }
}

/// The SVG with a role and a label; it has a view box and scales.
fn accessible(chart: &Chart) -> String {
    let label = html! { (chart.describes) }.into_string().replace('"', "&quot;");
    chart.svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1)
}

pub(crate) fn of_run(record: &RunRecord, charts: &[Chart]) -> String {
    let shown = |names: &[&str]| html! { @for chart in charts.iter().filter(|c| names.contains(&c.name)) { (figure(chart)) } };
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
                (scroll("Stages", &stages(record)))
                p.small {
                    "Size is the length of the packed file, written and read back. The metric (" (record.metric.name) ") is measured on the test split by Sinter's own "
                    "interpreter; what real runtimes measure stands below."
                }
                (shown(&["size", "quality", "path"]))
            }
            section {
                h2 { "On " (record.target) }
                (scroll("On the target", &on_target(record)))
                (sources(record))
                (shown(&["energy"]))
            }
            (judged::section(record))
            (measured(record))
                (certificate(record))
            section {
                h2 { "Layers" }
                (scroll("Layers", &layers(record)))
                (shown(&["layers", "map", "weights"]))
            }
            (classes(record, &shown(&["classes", "confusion"])))
            @if !record.ranges.is_empty() { section { h2 { "Calibration" } (shown(&["ranges"])) } }
            section { h2 { "Training and time" } (shown(&["training", "sensitivity", "sensitivity-bits", "time"])) }
            (files(record))
            @if !record.notes.is_empty() {
                section { h2 { "Notes of the run" } ul.small { @for note in &record.notes { li { (note) } } } }
            }
            (reproduce(record))
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
            div { dt { (record.metric.name) } dd { (record.metric.text(last.value)) small { "float " (record.metric.text(float.value)) } } }
            @if let Some((row, value)) = measured {
                div { dt { (record.metric.name) " in " (row.runtime) } dd { (record.metric.text(value)) small { (row.artifact) } } }
            }
            div { dt { "Multiply-accumulates" } dd { (Macs(last.macs)) small { "float " (Macs(float.macs)) } } }
            div { dt { "Parameters" } dd { (count(last.parameters)) small { (count(last.nonzero)) " not zero; float " (count(float.parameters)) } } }
            @if last.ram > 0 {
                div { dt { "Activation memory, estimated" } dd { (Bytes(last.ram)) small { "float " (Bytes(float.ram)) } } }
                div { dt { "Weights on a device" } dd { (Bytes(last.flash)) small { "float " (Bytes(float.flash)) } } }
            }
            @if let (Some(low), Some(high)) = (last.latency_low, last.latency_high) {
                div { dt { "Latency, estimated on " (record.target) } dd { (span(low, high, |v| Seconds(v).to_string())) small { "80 % interval" } } }
            }
            @if let (Some(low), Some(high)) = (last.energy_low, last.energy_high) {
                div { dt { "Energy, estimated on " (record.target) } dd { (span(low, high, |v| Joules(v).to_string())) small { "80 % interval" } } }
            }
            @if let Some(npu) = &record.npu {
                div { dt { "On " (npu.accelerator) ", by " (npu.tool) } dd { (Seconds(npu.seconds)) small { (count(npu.cycles)) " cycles, " (Bytes(npu.sram)) " SRAM" } } }
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
    let table = html! {
        table {
            thead { tr { th { "Of" } th.n { "At most" } th { "Is" } th { "Verdict" } @if missed { th { "What costs most" } } } }
            tbody { @for b in &record.budget { tr {
                td { (b.what) } td.n { (b.limit) } td.wrap { (b.value) } td { @if b.met { "met" } @else { strong { "missed" } } }
                @if missed { td.wrap { (b.worst.join(", ")) } }
            } } }
        }
    };
    html! { section { h2 { "Budget" } (scroll("Budget", &table)) } }
}

/// An interval, with the unit once where both ends have the same.
fn span(low: f64, high: f64, text: impl Fn(f64) -> String) -> String {
    // An interval deserves no more than two digits.
    let round = |v: f64| {
        let unit = 10f64.powf(v.abs().max(f64::MIN_POSITIVE).log10().floor() - 1.0);
        (v / unit).round() * unit
    };
    let (low, high) = (tidy(&text(round(low))), tidy(&text(round(high))));
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, a)), Some((_, b))) if a == b => format!("{number}–{high}"),
        _ => format!("{low} – {high}"),
    }
}

/// `210.00 µJ` as `210 µJ`.
fn tidy(text: &str) -> String {
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text.to_string(),
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

/// A figure: its text, the column of `stages.parquet` that it stands for, and the value there.
fn figure_cell(column: &str, value: f64, text: &str) -> Markup {
    html! { td.n data-column=(column) data-v=(value) { (text) } }
}

fn stages(record: &RunRecord) -> Markup {
    html! {
        table {
            thead { tr {
                th { "Stage" } th { "What" } th.n { "Packed" } th.n { (record.metric.name) } th.n { "Parameters" } th.n { "Not zero" } th.n { "MACs" } th.n { "Time" }
            } }
            tbody { @for s in &record.stages { tr data-stage=(s.index) {
                td { (s.stage) }
                td.wrap { (s.what) }
                (figure_cell("packed_bytes", s.packed_bytes as f64, &Bytes(s.packed_bytes).to_string()))
                (figure_cell("value", s.value, &record.metric.text(s.value)))
                (figure_cell("parameters", s.parameters as f64, &count(s.parameters)))
                (figure_cell("nonzero", s.nonzero as f64, &count(s.nonzero)))
                (figure_cell("macs", s.macs as f64, &Macs(s.macs).to_string()))
                (figure_cell("seconds", s.seconds, &if s.cached { "cached".to_string() } else { Seconds(s.seconds).to_string() }))
            } } }
        }
    }
}

/// What each stage saves on the target.
fn on_target(record: &RunRecord) -> Markup {
    let boards = record.stages.iter().any(|s| s.energy_low.is_some() || s.latency_low.is_some());
    let range = |low: Option<f64>, high: Option<f64>, text: fn(f64) -> String| match (low, high) {
        (Some(low), Some(high)) => span(low, high, text),
        _ => "not all in 8 bits".to_string(),
    };
    let changed = |before: f64, after: f64| html! { td.n.change { (change(before, after)) } };
    html! {
        table {
            thead { tr {
                th { "Stage" } th.n { "Weights" } th.n { "" } th.n { "Activations" } th.n { "" } th.n { "Energy floor" } th.n { "" }
                @if boards { th.n { "Energy" } th.n { "Latency" } }
            } }
            tbody { @for (i, s) in record.stages.iter().enumerate() {
                @let before = &record.stages[i.saturating_sub(1)];
                tr data-stage=(s.index) {
                    td { (s.stage) }
                    (figure_cell("flash_bytes_estimate", s.flash as f64, &Bytes(s.flash).to_string()))
                    (changed(before.flash as f64, s.flash as f64))
                    (figure_cell("ram_bytes_estimate", s.ram as f64, &Bytes(s.ram).to_string()))
                    (changed(before.ram as f64, s.ram as f64))
                    (figure_cell("energy_floor_joules_estimate", s.energy_floor, &Joules(s.energy_floor).to_string()))
                    (changed(before.energy_floor, s.energy_floor))
                    @if boards {
                        td.n { (range(s.energy_low, s.energy_high, |v| Joules(v).to_string())) }
                        td.n { (range(s.latency_low, s.latency_high, |v| Seconds(v).to_string())) }
                    }
                }
            } }
        }
    }
}

/// What the estimates rest on.
fn sources(record: &RunRecord) -> Markup {
    html! {
        p.small {
            "All of these are estimates. Weights count as kernels read them, activations are planned by lifetime. The energy floor counts arithmetic and bytes moved ("
            (record.energy_source) "): no device uses less, real ones use far more. Zeros without a pattern and shared values save no operation."
        }
        @if let Some(board) = &record.board {
            p.small {
                "Energy and latency are for " (board.name)
                @if let Some(software) = &board.energy_software { ", energy with " (software) }
                @if let Some(software) = &board.latency_software { ", latency with " (software) }
                ": intervals in which four models of five should lie, from " (board.source) "."
                @if let Some((low, high)) = board.published {
                    " All software that was measured on this board took " (format!("{:.0} to {:.0} pJ", low * 1e12, high * 1e12)) " a multiply-accumulate."
                }
            }
        }
        @if let Some(npu) = &record.npu { (accelerator(npu)) }
    }
}

fn accelerator(npu: &NpuRow) -> Markup {
    html! {
        p.small {
            (npu.tool) " compiles the TFLite file for " (npu.accelerator) ": " (count(npu.cycles)) " cycles, " (Seconds(npu.seconds)) " at the target's clock, "
            (Bytes(npu.sram)) " of SRAM and " (Bytes(npu.flash)) " of flash; "
            @if npu.on_cpu.is_empty() { "every operator runs on the accelerator." } @else { "on the processor: " (npu.on_cpu.join("; ")) }
            " These are the compiler's figures, not a chip's."
        }
    }
}

fn measured(record: &RunRecord) -> Markup {
    if record.measured.is_empty() {
        return html! {};
    }
    let table = html! {
        table {
            thead { tr { th { "Artefact" } th { "Runtime" } th.n { (record.metric.name) ", measured" } th.n { "simulated" } th.n { "Equal predictions" } th.n { "Latency" } th.n { "Peak memory" } } }
            tbody { @for m in &record.measured { tr {
                td { (m.artifact) }
                td { (m.runtime) }
                td.n { @match m.value { Some(v) => (record.metric.text(v)), None => "not measured" } }
                td.n { (record.metric.text(m.simulated)) }
                td.n { (m.equal.map_or("–".into(), |e| format!("{:.2} %", e * 100.0))) }
                td.n { (m.latency_median.map_or("–".into(), |t| format!("{t:.3} ms"))) @if let Some(t) = m.latency_p95 { br; small { (format!("95 %: {t:.3} ms")) } } }
                td.n { (m.peak_memory.map_or("–".into(), |n| Bytes(n).to_string())) }
            } } }
        }
    };
    html! {
        section {
            h2 { "Measured in real runtimes" }
            (scroll("Measured in real runtimes", &table))
            @for note in record.measured.iter().filter_map(|m| m.note.as_ref()) { p.small { (note) } }
            p.small { "Latency is of one sample on one thread of this machine: the median, and what 95 % stay below; peak memory is what opening the file and one inference added to the process." (slower(record)) }
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
    let of_float: std::collections::BTreeMap<&str, &LayerRow> =
        record.layers.iter().filter(|l| l.stage_index == float).map(|l| (l.layer.as_str(), l)).collect();
    html! {
        table.sortable {
            thead { tr {
                th { "Layer" } th { "Kind" } th { "Shape" } th { "Was" } th { "Encoding" } th.n { "Parameters" } th.n { "Zeros" } th.n { "MACs" }
                th.n { "Packed" } th.n { "Was" }
            } }
            tbody { @for l in record.layers.iter().filter(|l| l.stage_index == last) {
                @let was = of_float.get(l.layer.as_str());
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

/// The classes that lost most, in a sentence, and their charts.
fn classes(record: &RunRecord, charts: &Markup) -> Markup {
    let Some([before, after]) = &record.confusion else { return html! {} };
    let (before, after) = (recalls(before), recalls(after));
    let lost = |i: usize| (before[i] - after[i]) * 100.0;
    let worst: Vec<usize> = worst_hit(&before, &after).into_iter().filter(|&i| lost(i) > 0.0).take(3).collect();
    let named: Vec<String> = worst.iter().map(|&i| format!("{} ({:.1} points)", record.class(i), lost(i))).collect();
    html! {
        section {
            h2 { "Classes" }
            p { @if named.is_empty() { "No class lost." } @else { "Hit worst: " (named.join(", ")) "." } }
            (charts)
        }
    }
}

fn files(record: &RunRecord) -> Markup {
    let compiled = record.artifacts.iter().any(|a| a.note.is_some());
    let table = html! {
        table {
            thead { tr { th { "File" } th { "What" } th.n { "Size" } @if compiled { th.n { "Flash" } th.n { "RAM" } th { "Compiled" } } } }
            tbody { @for a in &record.artifacts { tr {
                td { a href=(a.path) { (a.path) } } td.wrap { (a.what) } td.n { (Bytes(a.bytes)) }
                @if compiled {
                    td.n { @if let Some(n) = a.flash { (Bytes(n)) } } td.n { @if let Some(n) = a.ram { (Bytes(n)) } }
                    td.wrap { @if let Some(note) = &a.note { (note) } }
                }
            } } }
        }
    };
    html! { section { h2 { "Files" } (scroll("Files", &table)) @if let Some(why) = dense(record) { p.small { (why) } } } }
}

fn reproduce(record: &RunRecord) -> Markup {
    let versions: Vec<String> = record.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    html! {
        section {
            h2 { "How to reproduce" }
            p { "The same versions, seed and machine give the same figures: " @if versions.is_empty() { "Sinter " (record.version) } @else { (versions.join(", ")) } ", seed "
                (record.seed) ", " (record.machine) ". Begun " (record.started) ", " (format!("{:.0}", record.seconds)) " s." }
            @if !record.command.is_empty() { pre tabindex="0" { code { (record.command) } } }
            p { "The pipeline with every default filled in; paths are relative to the pipeline file:" }
            pre tabindex="0" { code { (record.config) } }
        }
    }
}

/// Stages of a run as the page counts them; for the comparison.
pub(crate) fn stage_text(record: &RunRecord, stage: &StageRow) -> String {
    format!("{} · {}", Bytes(stage.packed_bytes), record.metric.text(stage.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_two_digits() {
        assert_eq!(span(211.72e-6, 450.91e-6, |v| Joules(v).to_string()), "210–450 µJ");
        assert_eq!(span(0.95e-3, 1.234e-3, |v| Seconds(v).to_string()), "950 µs – 1.2 ms");
    }
}
