//! The record of a run: all that its report is drawn from.

use std::path::Path;

use sinter_estimate::Quantity;
use sinter_model::{Model, OpError, to_f32s};
use sinter_report::{BoardRow, Figure, QualityRow, RangeRow, RunRecord, WeightsRow};
use sinter_task::Measurement;

use crate::measure::Measured;
use crate::resolve::Plan;
use crate::snapshot::{Snapshot, SnapshotError};

/// Bins of a histogram of weights.
const BINS: usize = 60;
/// At most so many distinct values are listed.
const MOST_VALUES: usize = 64;

/// What was measured after each stage, and how the float model and the result differ.
pub(crate) fn of_run(
    plan: &Plan,
    measured: &[Measured],
    (float, result): (&Snapshot, &Snapshot),
    folder: &Path,
) -> Result<RunRecord, SnapshotError> {
    let last = &measured[measured.len() - 1];
    let before = &measured[plan.training_stages()];
    let software = |quantity| {
        let system = plan.target.board.as_ref().and_then(|b| b.measured(quantity));
        system.map(|s| s.software.clone())
    };
    let board = plan.target.board.as_ref().map(|b| BoardRow {
        name: b.name.clone(),
        source: b.source.clone(),
        energy_software: software(Quantity::Energy),
        latency_software: software(Quantity::Latency),
        published: b.published(Quantity::Energy),
    });
    Ok(RunRecord {
        version: env!("CARGO_PKG_VERSION").into(),
        pipeline: plan.config.name.clone(),
        run: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        started: now(),
        seed: plan.config.seed,
        machine: machine(),
        model: plan.model.name.clone(),
        data: plan.data.name.clone(),
        target: plan.target.name.clone(),
        config: serde_yaml::to_string(&YamlConfig(&plan.config)).unwrap_or_default(),
        metric: last.quality.metric.clone(),
        stages: measured.iter().map(|m| m.row.clone()).collect(),
        layers: measured.iter().flat_map(|m| m.layers.clone()).collect(),
        curves: measured.iter().flat_map(|m| m.said.curves.clone()).collect(),
        notes: plan.notes.iter().cloned().chain(measured.iter().flat_map(|m| m.said.notes.clone())).collect(),
        sensitivity: measured.iter().flat_map(|m| m.said.sensitivity.clone()).collect(),
        classes: plan.data.classes.clone(),
        energy_source: plan.target.floor.source.clone(),
        board,
        weights: weights(float, result)?,
        ranges: ranges(result.model, measured)?,
        confusion: before.quality.confusion.clone().zip(last.quality.confusion.clone()).map(|(b, a)| [b, a]),
        quality: quality(plan, before, last),
        versions: versions(),
        command: command(plan),
        ..RunRecord::default()
    })
}

/// What brings the same run about.
fn command(plan: &Plan) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-=%/:".contains(c);
    let quoted = |text: &str| match text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    };
    let set = |name: &str| plan.changes.set.iter().any(|set| set.starts_with(&format!("vars.{name}=")));
    let environment = plan.environment.iter().filter(|(name, _)| !set(name));
    // What the environment gave is given again, as text in quotes where YAML would see something else in it.
    let given = environment.map(|(name, text)| match serde_yaml::from_str::<serde_yaml::Value>(text) {
        Ok(value) if value.is_number() || value.is_bool() || value.as_str() == Some(text) => format!("vars.{name}={text}"),
        _ => format!("vars.{name}={}", serde_json::Value::from(text.as_str())),
    });
    let all: String = given.chain(plan.changes.set.iter().cloned()).map(|set| format!(" --set {}", quoted(&set))).collect();
    format!("sinter run {} --seed {}{all}", quoted(&plan.path.display().to_string()), plan.config.seed)
}

/// Every metric as the simulation has it: of the float model, and of the result.
fn quality(plan: &Plan, float: &Measured, last: &Measured) -> Vec<QualityRow> {
    let all = |m: &Measured| std::iter::once(m.quality.clone()).chain(m.others.clone()).collect::<Vec<_>>();
    let figure = |m: &Measurement| Figure { value: m.value, interval: m.interval };
    let each = all(float).into_iter().zip(all(last)).zip(plan.metrics());
    let rows = each.map(|((float, result), choice)| QualityRow {
        float: (!choice.kind().is_distance()).then(|| figure(&float)),
        result: figure(&result),
        lost: None,
        runtime: "simulation".into(),
        samples: result.samples,
        metric: result.metric,
    });
    rows.collect()
}

/// How the weights of each layer lie, float and final.
fn weights(float: &Snapshot, result: &Snapshot) -> Result<Vec<WeightsRow>, SnapshotError> {
    let mut rows = Vec::new();
    for layer in result.model.layers_and_tables() {
        let values = |snapshot: &Snapshot| -> Result<Vec<f32>, SnapshotError> {
            let Some(value) = snapshot.effective()?.get(&layer.weight) else { return Ok(vec![]) };
            let values = to_f32s(value).map_err(at(&layer.weight))?;
            Ok(values.into_iter().filter(|v| v.is_finite() && *v != 0.0).collect())
        };
        let (before, after) = (values(float)?, values(result)?);
        let ends = |all: &[f32]| all.iter().fold((0f32, 0f32), |(low, high), &v| (low.min(v), high.max(v)));
        let ((low, high), (low2, high2)) = (ends(&before), ends(&after));
        let (low, high) = (f64::from(low.min(low2)), f64::from(high.max(high2)));
        if high <= low {
            continue;
        }
        let count = |all: &[f32]| {
            let mut bins = vec![0u64; BINS];
            for &v in all {
                let bin = ((f64::from(v) - low) / (high - low) * BINS as f64) as usize;
                bins[bin.min(BINS - 1)] += 1;
            }
            bins
        };
        let (before, bins) = (count(&before), count(&after));
        let mut distinct = after;
        distinct.sort_unstable_by(f32::total_cmp);
        distinct.dedup();
        let few = distinct.len() <= MOST_VALUES;
        let values = if few { distinct.into_iter().map(f64::from).collect() } else { vec![] };
        rows.push(WeightsRow { layer: layer.name, low, high, before, after: bins, values });
    }
    Ok(rows)
}

/// The quantizers of values between layers, beside what calibration saw.
fn ranges(model: &Model, measured: &[Measured]) -> Result<Vec<RangeRow>, SnapshotError> {
    let mut rows = Vec::new();
    let order = model.graph.inputs.iter().map(|i| &i.name).chain(model.graph.nodes.iter().flat_map(|n| &n.outputs));
    for value in order {
        let Some(quantizer) = model.activations.get(value) else { continue };
        let params = quantizer.params().map_err(at(value))?;
        let (scale, zero_point) = (f64::from(params.scales()[0]), params.zero_points()[0]);
        let (least, greatest) = quantizer.range();
        let seen = measured.iter().rev().flat_map(|m| &m.said.seen).find(|(name, ..)| name == value);
        rows.push(RangeRow {
            value: value.clone(),
            bits: quantizer.bits(),
            scale,
            zero_point,
            low: (least - zero_point) as f64 * scale,
            high: (greatest - zero_point) as f64 * scale,
            seen_low: seen.map(|s| s.1),
            seen_high: seen.map(|s| s.2),
        });
    }
    Ok(rows)
}

/// Names the value whose numbers could not be read.
fn at(name: &str) -> impl Fn(OpError) -> SnapshotError + '_ {
    move |source| SnapshotError::Weight { weight: name.to_string(), source }
}

/// What the figures rest on.
fn versions() -> Vec<(String, String)> {
    let mut all = vec![("Sinter".to_string(), env!("CARGO_PKG_VERSION").to_string())];
    all.extend(libtorch_version().map(|v| ("libtorch".to_string(), v)));
    all.extend(sinter_export::runtime_version().map(|v| ("ONNX Runtime".to_string(), v)));
    all
}

/// As the header beside the library says: in LIBTORCH, or in `.libtorch` in a folder above the program.
fn libtorch_version() -> Option<String> {
    let header = "include/torch/headeronly/version.h";
    let exported = std::env::var_os("LIBTORCH").map(|place| Path::new(&place).join(header));
    let program = std::env::current_exe().ok()?;
    let beside = program.ancestors().skip(1).map(|folder| folder.join(".libtorch").join(header));
    let text = exported.into_iter().chain(beside).find_map(|path| std::fs::read_to_string(path).ok())?;
    let part = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("#define TORCH_VERSION_{name} ")))?;
        line.trim().parse::<u32>().ok()
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}

/// The configuration in the form that it is read in: `- train: {...}`.
struct YamlConfig<'a>(&'a crate::config::PipelineConfig);

impl serde::Serialize for YamlConfig<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_yaml::with::singleton_map_recursive::serialize(self.0, serializer)
    }
}

/// The answer in one line.
pub(crate) fn summary(record: &RunRecord) -> String {
    let (Some(float), Some(last)) = (record.float(), record.last()) else { return String::new() };
    if record.stages.len() == 1 {
        return format!("{} as it came: {}", record.model, record.metric.text(last.value));
    }
    // What a real runtime scored, where there is a score.
    let real = record.exported().and_then(|m| m.value);
    let value = real.unwrap_or(last.value);
    let place = if real.is_some() { " in ONNX Runtime" } else { "" };
    let size = match last.index == float.index {
        true => format!("{} trained", record.model),
        false => format!("{:.1}× smaller", record.ratio()),
    };
    format!(
        "{size}, {}: {} of {} packed, {}{place}",
        record.loss_text(value),
        sinter_model::Bytes(last.packed_bytes),
        sinter_model::Bytes(float.onnx_float_bytes),
        record.metric.text(value)
    )
}

/// Now, UTC, RFC 3339.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The processor and the number of threads that libtorch uses.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .and_then(|l| l.split_once(':'))
        .map(|(_, n)| n.trim().to_string());
    format!("{} ({} threads)", name.unwrap_or_else(|| std::env::consts::ARCH.to_string()), tch::get_num_threads())
}
