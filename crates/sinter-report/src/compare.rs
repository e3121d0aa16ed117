//! Several runs side by side.

use std::path::Path;

use maud::html;
use sinter_model::{Bytes, Joules, Macs, write_whole};

use crate::charts::of_comparison;
use crate::error::ReportError;
use crate::page::{count, figure, frame};
use crate::record::{RunRecord, StageRow};

/// Writes `compare.html`, `compare.csv` and the chart of several runs into a folder. The best value of each column is marked.
pub fn write_comparison(records: &[RunRecord], folder: &Path) -> Result<(), ReportError> {
    let chart = of_comparison(records)?;
    write_whole(&folder.join("compare.svg"), chart.svg.as_bytes())?;
    write_whole(&folder.join("compare.png"), &chart.png)?;
    let rows: Vec<(&RunRecord, StageRow)> = records.iter().map(|r| (r, r.last().cloned().unwrap_or_default())).collect();
    write_whole(&folder.join("compare.csv"), csv(&rows).as_bytes())?;
    let least = |get: &dyn Fn(&(&RunRecord, StageRow)) -> f64| rows.iter().map(get).fold(f64::INFINITY, f64::min);
    let sign = |r: &RunRecord| if r.higher_is_better { -1.0 } else { 1.0 };
    let size = |row: &(&RunRecord, StageRow)| row.1.packed_bytes as f64;
    let quality = |row: &(&RunRecord, StageRow)| sign(row.0) * row.1.value;
    let macs = |row: &(&RunRecord, StageRow)| row.1.macs as f64;
    let energy = |row: &(&RunRecord, StageRow)| row.1.energy_floor;
    let latency = |row: &(&RunRecord, StageRow)| compressed_latency(row.0).unwrap_or(f64::INFINITY);
    let best = [least(&size), least(&quality), least(&macs), least(&energy), least(&latency)];
    let mark = |value: f64, best: f64| if value == best && value.is_finite() { "n best" } else { "n" };
    let metrics: std::collections::BTreeSet<&str> = records.iter().map(|r| r.metric.as_str()).collect();
    let metric = metrics.iter().copied().collect::<Vec<_>>().join(" / ");
    let body = html! {
        header { h1 { "Sinter · comparison" } p.answer { (records.len()) " runs side by side" } }
        main {
            div.scroll tabindex="0" role="region" aria-label="Runs" {
                table.sortable {
                    thead { tr {
                        th { "Run" } th { "Recipe" } th.n { "Packed" } th.n { "Smaller" } th.n { (metric) } th.n { "Lost" } th.n { "Parameters" } th.n { "MACs" }
                        th.n { "Energy floor, estimated" } th.n { "Median latency" } th.n { "Time" }
                    } }
                    tbody { @for row in &rows { @let (r, s) = row; tr {
                        td { (r.pipeline) br; small { (r.run) } }
                        td.wrap { (r.stages.iter().skip(1).map(|s| s.what.clone()).collect::<Vec<_>>().join(", then ")) }
                        td class=(mark(size(row), best[0])) data-v=(s.packed_bytes) { (Bytes(s.packed_bytes)) }
                        td.n data-v=(r.ratio()) { (format!("{:.1}×", r.ratio())) }
                        td class=(mark(quality(row), best[1])) data-v=(s.value) { (r.value_text(s.value)) }
                        td.n { (r.loss_text(s.value)) }
                        td.n data-v=(s.parameters) { (count(s.parameters)) }
                        td class=(mark(macs(row), best[2])) data-v=(s.macs) { (Macs(s.macs)) }
                        td class=(mark(energy(row), best[3])) data-v=(s.energy_floor) { (Joules(s.energy_floor)) }
                        td class=(mark(latency(row), best[4])) data-v=(latency(row)) { (compressed_latency(r).map_or("not measured".into(), |t| format!("{t:.3} ms"))) }
                        td.n data-v=(r.seconds) { (format!("{:.0} s", r.seconds)) }
                    } } }
                }
            }
            (figure(&chart))
        }
    };
    write_whole(&folder.join("compare.html"), frame("Comparison · Sinter", body).as_bytes())?;
    Ok(())
}

fn compressed_latency(record: &RunRecord) -> Option<f64> {
    record.measured.iter().find(|m| m.artifact.ends_with("model.onnx")).and_then(|m| m.latency_median)
}

fn csv(rows: &[(&RunRecord, StageRow)]) -> String {
    let mut text = String::from(
        "pipeline,run,metric,value,packed_bytes,ratio,parameters,nonzero,macs,energy_floor_joules_estimate,seconds\n",
    );
    for (r, s) in rows {
        let name = format!("\"{}\"", r.pipeline.replace('"', "\"\""));
        text += &format!(
            "{name},{},{},{},{},{},{},{},{},{},{}\n",
            r.run,
            r.metric,
            s.value,
            s.packed_bytes,
            r.ratio(),
            s.parameters,
            s.nonzero,
            s.macs,
            s.energy_floor,
            r.seconds
        );
    }
    text
}
