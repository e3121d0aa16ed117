//! What a run leaves in `artifacts/`, and what real runtimes make of it.

use std::path::Path;

use sinter_data::Order;
use sinter_estimate::{Measure, Vela};
use sinter_export::{OnnxRuntime, RuntimeError, arena, c, device, explicit, peak_memory, tflite};
use sinter_model::{Bytes, Model, write_whole};
use sinter_onnx::Storage;
use sinter_report::{ArtifactRow, MeasuredRow, NpuRow};
use sinter_train::{Event, Events, StageError, evaluate_with};

use crate::config::Export;
use crate::measure::{Measured, pack_checked};
use crate::plan::Plan;
use crate::run::RunError;

/// How often an inference is timed.
const LATENCY_RUNS: usize = 200;

/// What a run left.
pub(crate) struct Left {
    pub files: Vec<ArtifactRow>,
    pub measured: Vec<MeasuredRow>,
    /// What Vela says of the TFLite file, for targets that it compiles for.
    pub npu: Option<NpuRow>,
}

/// Writes the artefacts and measures them.
pub(crate) fn leave(
    plan: &Plan,
    model: &Model,
    last: &Measured,
    float: &Model,
    float_measured: &Measured,
    folder: &Path,
    measuring: bool,
    events: Events,
) -> Result<Left, RunError> {
    let mut rows = Vec::new();
    let mut rows_of_source = Vec::new();
    let mut measured = Vec::new();
    let mut npu = None;
    let mut add = |name: &str, what: &str| -> Result<(), RunError> {
        let path = folder.join("artifacts").join(name);
        let bytes = std::fs::metadata(&path).map_err(|source| RunError::Io { path: path.clone(), source })?.len();
        events(Event::Artifact { path, bytes });
        rows.push(ArtifactRow { path: format!("artifacts/{name}"), what: what.to_string(), bytes, ..ArtifactRow::default() });
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
            Export::Tflite => {
                let path = folder.join("artifacts/model.tflite");
                write_whole(&path, &tflite(&device::lower(model)?))?;
                let mut what =
                    "The compressed model for LiteRT, TensorFlow Lite Micro and Vela; pictures channels last".to_string();
                match arena(&path) {
                    Some(Ok(bytes)) => {
                        what += &format!("; its arena in TensorFlow Lite Micro is {}, measured", Bytes(bytes as u64))
                    }
                    Some(Err(reason)) => what += &format!("; TensorFlow Lite Micro refuses it: {reason}"),
                    None => {}
                }
                if let Some(settings) = &plan.target.vela {
                    match vela(&path, settings) {
                        Some(Ok(row)) => npu = Some(row),
                        Some(Err(reason)) => what += &format!("; Vela refuses it: {reason}"),
                        None => what += "; not compiled by Vela, which `cargo xtask setup --runtimes` installs",
                    }
                }
                add("model.tflite", &what)?;
            }
            Export::C => rows_of_source.extend(c_source(plan, model, folder, measuring, events)?),
        }
    }
    rows.extend(rows_of_source);
    Ok(Left { files: rows, measured, npu })
}

/// What Vela makes of a file: `None` where it is not installed.
fn vela(file: &Path, settings: &Vela) -> Option<Result<NpuRow, String>> {
    let compiled = sinter_export::vela(file, &settings.accelerator)?;
    Some(compiled.map(|c| NpuRow {
        tool: c.version,
        accelerator: settings.accelerator.clone(),
        cycles: c.cycles,
        seconds: c.cycles as f64 / (settings.clock_mhz * 1e6),
        sram: c.sram,
        flash: c.flash,
        on_cpu: c.on_cpu,
    }))
}

/// Writes the folder of C source; its test vector is the first test sample. What a compiler makes of it is measured where there is one, and
/// where compiling and running it was asked for: a model from outside is data until then.
fn c_source(
    plan: &Plan,
    model: &Model,
    folder: &Path,
    measuring: bool,
    events: Events,
) -> Result<Option<ArtifactRow>, RunError> {
    let Some(batch) = plan.data.test.batches(1, Order::Stored).next() else { return Ok(None) };
    let program = device::lower(model)?;
    let sample = device::integers(&program, &[batch?.x])?;
    let place = folder.join("artifacts/c");
    std::fs::create_dir_all(&place).map_err(|error| RunError::Io { path: place.clone(), source: error })?;
    let probe = place.join("model.tflite");
    write_whole(&probe, &tflite(&program))?;
    let arena = arena(&probe).and_then(Result::ok);
    std::fs::remove_file(&probe).map_err(|error| RunError::Io { path: probe, source: error })?;
    let source = c::source(&program, &sample, arena)?;
    let mut bytes = 0;
    for (name, content) in &source.files {
        write_whole(&place.join(name), content)?;
        bytes += content.len() as u64;
    }
    events(Event::Artifact { path: place.clone(), bytes });
    let what = "C99 source for a microcontroller, with its test vector, and the TFLite file as an array".to_string();
    let mut row = ArtifactRow { path: "artifacts/c".into(), what, bytes, ..ArtifactRow::default() };
    let trusted = measuring || plan.config.model.zoo.is_some();
    let allowed = |what: Measure| trusted || plan.target.measure.contains(&what);
    if allowed(Measure::Run)
        && let Some(Err(reason)) = c::answers_its_test(&place)
    {
        row.note = Some(format!("the test vector is not answered: {reason}"));
    }
    if !allowed(Measure::Compile) {
        row.note = Some("not compiled: the model came from outside; `sinter run --measure`, or `measure:` of the target, does it".into());
        return Ok(Some(row));
    }
    match c::measure(&place) {
        Some(Ok(size)) => {
            row.flash = Some(size.flash);
            row.ram = Some(size.ram);
            row.note = row.note.or(Some(size.compiler));
        }
        Some(Err(reason)) => row.note = row.note.or(Some(format!("did not compile: {reason}"))),
        None => row.note = row.note.or(Some("not compiled: there is no C compiler here".into())),
    }
    Ok(Some(row))
}

/// Scores a file over the whole test split and times it. Without the runtime the row says "not measured".
fn in_onnx_runtime(plan: &Plan, file: &Path, name: &str, simulated: &Measured, float: &Model) -> Result<MeasuredRow, RunError> {
    let mut row = MeasuredRow {
        artifact: name.to_string(),
        runtime: "ONNX Runtime".into(),
        simulated: simulated.quality.value,
        ..MeasuredRow::default()
    };
    let first = plan.data.test.batches(1, Order::Stored).next().transpose()?;
    let (opened, peak) = peak_memory(|| {
        let mut runtime = OnnxRuntime::open(file)?;
        if let Some(batch) = &first {
            let _answer = runtime.run(&batch.x)?;
        }
        Ok::<_, RuntimeError>(runtime)
    });
    let mut runtime = match opened {
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
    row.peak_memory = peak;
    if let Some(batch) = first {
        let (median, p95) = runtime.latency(&batch.x, LATENCY_RUNS)?;
        row.latency_median = Some(median.as_secs_f64() * 1e3);
        row.latency_p95 = Some(p95.as_secs_f64() * 1e3);
    }
    Ok(row)
}
