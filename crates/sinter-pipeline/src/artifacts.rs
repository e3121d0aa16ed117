//! What a run leaves in `artifacts/`, and what real runtimes make of it.

use std::path::Path;

use sinter_data::Order;
use sinter_export::{OnnxRuntime, explicit};
use sinter_model::{Model, write_whole};
use sinter_onnx::Storage;
use sinter_report::{ArtifactRow, MeasuredRow};
use sinter_train::{Event, Events, StageError, evaluate_with};

use crate::config::Export;
use crate::measure::{Measured, pack_checked};
use crate::plan::Plan;
use crate::run::RunError;

/// How often an inference is timed.
const LATENCY_RUNS: usize = 200;

/// Writes the artefacts and measures them.
pub(crate) fn leave(
    plan: &Plan,
    model: &Model,
    last: &Measured,
    float: &Model,
    float_measured: &Measured,
    folder: &Path,
    events: Events,
) -> Result<(Vec<ArtifactRow>, Vec<MeasuredRow>), RunError> {
    let mut rows = Vec::new();
    let mut measured = Vec::new();
    let mut add = |name: &str, what: &str| -> Result<(), RunError> {
        let path = folder.join("artifacts").join(name);
        let bytes = std::fs::metadata(&path).map_err(|source| RunError::Io { path: path.clone(), source })?.len();
        events(Event::Artifact { path, bytes });
        rows.push(ArtifactRow { path: format!("artifacts/{name}"), what: what.to_string(), bytes });
        Ok(())
    };
    for export in &plan.config.export {
        match export {
            Export::Packed => {
                let packed = pack_checked(model)?;
                write_whole(&folder.join("artifacts/model.sinter"), &packed.bytes)?;
                add("model.sinter", "The packed file: the fewest bytes; `sinter unpack` turns it into ONNX")?;
            }
            Export::Onnx => {
                let (ours, base) = (folder.join("artifacts/model.onnx"), folder.join("artifacts/float.onnx"));
                sinter_onnx::save(float, &base, Storage::Inside)?;
                add("float.onnx", "The float32 model before compression, to compare with")?;
                explicit(model)?.save(&ours)?;
                let what = match model.activations.is_empty() {
                    true => "The compressed model as ONNX",
                    false => "The compressed model as ONNX with QuantizeLinear and DequantizeLinear",
                };
                add("model.onnx", what)?;
                measured.push(in_onnx_runtime(plan, &base, "artifacts/float.onnx", float_measured, float)?);
                measured.push(in_onnx_runtime(plan, &ours, "artifacts/model.onnx", last, float)?);
            }
        }
    }
    Ok((rows, measured))
}

/// Scores a file over the whole test split and times it. Without the runtime the row says "not measured".
fn in_onnx_runtime(plan: &Plan, file: &Path, name: &str, simulated: &Measured, float: &Model) -> Result<MeasuredRow, RunError> {
    let mut row = MeasuredRow {
        artifact: name.to_string(),
        runtime: "ONNX Runtime".into(),
        simulated: simulated.quality.value,
        ..MeasuredRow::default()
    };
    let mut runtime = match OnnxRuntime::open(file) {
        Ok(runtime) => runtime,
        Err(e) => {
            row.note = Some(e.to_string());
            return Ok(row);
        }
    };
    let mut predict = |x: &tch::Tensor| runtime.run(x).map_err(|e| StageError::config("", e.to_string()));
    let quality = match evaluate_with(&mut predict, &plan.data.test, plan.data.task, Some(float)) {
        Ok(quality) => quality,
        // A file that the runtime refuses is told, and takes nothing else with it.
        Err(e) => {
            row.note = Some(e.to_string());
            return Ok(row);
        }
    };
    row.value = Some(quality.value);
    if let Some(batch) = plan.data.test.batches(1, Order::Stored).next() {
        let (median, p95) = runtime.latency(&batch?.x, LATENCY_RUNS)?;
        row.latency_median = Some(median.as_secs_f64() * 1e3);
        row.latency_p95 = Some(p95.as_secs_f64() * 1e3);
    }
    Ok(row)
}
