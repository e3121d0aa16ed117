//! Whether the result keeps to the budget, and what costs most where it does not.

use sinter_estimate::Target;
use sinter_model::{Bytes, Joules, Seconds};
use sinter_report::{ArtifactRow, BudgetRow, LayerRow, RunRecord, StageRow};

use crate::resolve::Plan;
use crate::snapshot::{Snapshot, SnapshotError};

/// How many layers are named.
const NAMED: usize = 3;

/// Bytes, and where they come from.
type Measured = (u64, String);

/// Flash: of the C source where it was compiled for the target; else the upper end of what it takes on a core such as the target's; else, where no
/// kernel of ours runs, the weights.
fn flash(target: &Target, result: &Snapshot, record: &RunRecord, last: &StageRow) -> Measured {
    if let Some(measured) = compiled(record, |row| row.flash) {
        return measured;
    }
    let estimated = target.core.and_then(|_| sinter_export::c::flash(result.program().ok()?).ok());
    match estimated {
        Some((low, high)) => (
            high,
            format!(
                " at most, estimated ({} at least): weights, tables and code of kernels; the target's compiler is not here",
                Bytes(low)
            ),
        ),
        None => (last.flash, ", weights alone".into()),
    }
}

/// RAM: of the accelerator where its compiler told, of the C source where it was compiled, else the activations.
fn ram(record: &RunRecord, last: &StageRow) -> Measured {
    let of_npu = record.npu.as_ref().map(|n| (n.sram, format!(" of SRAM, by {}", n.tool)));
    of_npu.or_else(|| compiled(record, |row| row.ram)).unwrap_or_else(|| (last.ram, ", activations, estimated".into()))
}

/// What the compiler of the C source says.
fn compiled(record: &RunRecord, bytes: impl Fn(&ArtifactRow) -> Option<u64>) -> Option<Measured> {
    let row = record.artifacts.iter().find(|a| a.flash.is_some())?;
    Some((bytes(row)?, row.note.clone().map_or_else(String::new, |n| format!(", compiled ({n})"))))
}

/// One row for each limit that the pipeline sets.
pub(crate) fn verdicts(plan: &Plan, result: &Snapshot, record: &RunRecord) -> Result<Vec<BudgetRow>, SnapshotError> {
    let Some(budget) = &plan.config.budget else { return Ok(vec![]) };
    let (Some(float), Some(last)) = (record.float(), record.last()) else { return Ok(vec![]) };
    let mut rows = Vec::new();
    let mut add = |what: &str, limit: String, value: String, met: bool, worst: Vec<String>| {
        let worst = if met { vec![] } else { worst };
        rows.push(BudgetRow { what: what.into(), limit, value, met, worst });
    };
    if let Some(most) = budget.accuracy_drop {
        // What a real runtime scored, where there is a score.
        let scored = record.exported().and_then(|m| m.value);
        let (value, place) = scored.map_or((last.value, "simulated"), |v| (v, "measured in ONNX Runtime"));
        let lost = record.metric.degradation(float.value, value);
        add("accuracy_drop", most.to_string(), format!("{lost}, {place}"), lost.share <= most.get() + 1e-9, sensitive(record));
    }
    if let Some(most) = budget.flash {
        let (value, place) = flash(&plan.target, result, record, last);
        let worst = layers(record, |l| l.parameters as f64, |l| format!("{} weights", l.parameters));
        add("flash", most.to_string(), format!("{}{place}", Bytes(value)), value <= most.0, worst);
    }
    if let Some(most) = budget.ram {
        let (value, place) = ram(record, last);
        let peak = &result.memory()?.peak_node;
        add(
            "ram",
            most.to_string(),
            format!("{}{place}", Bytes(value)),
            value <= most.0,
            vec![format!("most is alive at {peak}")],
        );
    }
    let costly = || layers(record, |l| l.macs as f64, |l| format!("{} MACs", sinter_model::Macs(l.macs)));
    let unknown = || match plan.target.vela.is_some() {
        true => "not known: export tflite, and install Vela with `cargo xtask setup --runtimes`".to_string(),
        false => "not known: the model is not all in 8 bits".to_string(),
    };
    if let (Some(most), Some(npu)) = (budget.latency, &record.npu) {
        let value = format!("{}, by {}", Seconds(npu.seconds), npu.tool);
        add("latency", most.to_string(), value, npu.seconds <= most.0, costly());
    } else if let Some(most) = budget.latency {
        let value = last.latency_high.map_or_else(unknown, |high| format!("up to {}, estimated", Seconds(high)));
        add("latency", most.to_string(), value, last.latency_high.is_some_and(|high| high <= most.0), costly());
    }
    if let Some(most) = budget.energy {
        let value = last.energy_high.map_or_else(unknown, |high| format!("up to {}, estimated", Joules(high)));
        add("energy", most.to_string(), value, last.energy_high.is_some_and(|high| high <= most.0), costly());
    }
    Ok(rows)
}

/// Whether the result fits the target's memories, to end a summary with; empty where they are not known.
pub(crate) fn fit(target: &Target, result: &Snapshot, record: &RunRecord) -> String {
    let (Some(has_flash), Some(has_ram), Some(last)) = (target.flash, target.ram, record.last()) else { return String::new() };
    let used = [("flash", has_flash.0, flash(target, result, record, last).0), ("RAM", has_ram.0, ram(record, last).0)];
    let over: Vec<String> = used
        .iter()
        .filter(|(_, have, need)| need > have)
        .map(|(what, have, need)| format!("{} too much for its {what}", Bytes(need - have)))
        .collect();
    match over.is_empty() {
        true => {
            let spare = used.map(|(what, have, need)| format!("{} of {what}", Bytes(have - need)));
            format!("; fits {} with {} to spare", target.name, spare.join(" and "))
        }
        false => format!("; does not fit {}: {}", target.name, over.join(", ")),
    }
}

/// A verdict in one line.
pub(crate) fn line(row: &BudgetRow) -> String {
    let worst = if row.worst.is_empty() { String::new() } else { format!("; most: {}", row.worst.join(", ")) };
    let verdict = if row.met { "met" } else { "missed" };
    format!("{} at most {}: {} ({verdict}{worst})", row.what, row.limit, row.value)
}

/// The layers of the result that cost most.
fn layers(record: &RunRecord, cost: impl Fn(&LayerRow) -> f64, tell: impl Fn(&LayerRow) -> String) -> Vec<String> {
    let last = record.last().map_or(0, |s| s.index);
    let mut rows: Vec<&LayerRow> = record.layers.iter().filter(|l| l.stage_index == last).collect();
    rows.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
    rows.into_iter().take(NAMED).map(|l| format!("{} ({})", short(&l.layer), tell(l))).collect()
}

/// A layer's name; exporters join the names of all that they fused, and the last tells most.
fn short(name: &str) -> &str {
    name.rsplit(';').next().unwrap_or(name)
}

/// The layers that a scan found to lose most, where one was made.
fn sensitive(record: &RunRecord) -> Vec<String> {
    let mut rows: Vec<_> = record.sensitivity.iter().collect();
    rows.sort_by(|a, b| b.lost.total_cmp(&a.lost));
    let mut named: Vec<String> = Vec::new();
    for row in rows {
        if named.len() < NAMED && !named.contains(&row.layer) {
            named.push(row.layer.clone());
        }
    }
    if named.is_empty() {
        vec!["no scan was made: `accuracy_drop` in `quantize`, or `mixed`, names layers".into()]
    } else {
        named
    }
}
