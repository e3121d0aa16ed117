//! ONNX files, and what ONNX Runtime makes of them.

use std::path::Path;

use sinter_data::Order;
use sinter_estimate::Rules;
use sinter_exec::{ExecError, first_step};
use sinter_export::{OnnxRuntime, RuntimeError, explicit, peak_memory};
use sinter_model::Model;
use sinter_onnx::Storage;
use sinter_report::{Figure, LostRow, MeasuredRow, QualityRow, Samples};
use sinter_task::{Examined, Paired, TaskError, examine};
use sinter_train::Event;

use super::agreement::{Agreement, first_that_differs};
use super::{ArtefactError, Writer};
use crate::config::{StageConfig, StageEntry};

/// How often an inference is timed.
const LATENCY_RUNS: usize = 200;
/// Times differ by less from run to run.
const SLOWER: f64 = 1.1;

impl Writer<'_> {
    /// The compressed model, and the float one to compare it with.
    pub(super) fn onnx(&mut self) -> Result<(), ArtefactError> {
        let (ours, base) = (self.place("model.onnx"), self.place("float.onnx"));
        sinter_onnx::save(self.float.model, &base, Storage::Inside)?;
        explicit(self.result.model)?.save(&ours)?;
        for (file, name, of, simulated) in [
            (base, "float.onnx", self.float.model, self.measured.0.quality.value),
            (ours, "model.onnx", self.result.model, self.measured.1.quality.value),
        ] {
            let what = match (name, of.activations.is_empty()) {
                ("float.onnx", _) => "The float32 model before compression, to compare with",
                (_, true) => "The compressed model as ONNX",
                (_, false) => "The compressed model as ONNX with QuantizeLinear and DequantizeLinear",
            };
            let artifact = format!("artifacts/{name}");
            let row = MeasuredRow { artifact, runtime: "ONNX Runtime".into(), simulated, ..MeasuredRow::default() };
            let row = self.in_onnx_runtime(&file, of, row)?;
            self.add(name, what)?;
            if let Some(text) = &row.note {
                (self.events)(Event::Note { text: format!("{}: {text}", row.artifact) });
            }
            self.done.measured.push(row);
        }
        self.tell_if_slower();
        Ok(())
    }

    /// Says so where integers made the file slower, and what to do about it.
    fn tell_if_slower(&self) {
        let [.., float, ours] = &self.done.measured[..] else { return };
        let (Some(before), Some(after)) = (float.latency_median, ours.latency_median) else { return };
        let asked = |stage: &StageEntry| matches!(&stage.config, StageConfig::Quantize(q) if q.latency);
        let tflite = self.plan.target.quantization.as_ref().is_some_and(|q| q.rules == Rules::Tflite);
        let could = !self.result.model.activations.is_empty() && !tflite && !self.plan.config.stages.iter().any(asked);
        if after > before * SLOWER && could {
            let text = format!(
                "{}: {after:.3} ms an inference, and the float file {before:.3} ms: `latency: true` in `quantize` leaves in float what \
                 integers make slower",
                ours.artifact
            );
            (self.events)(Event::Note { text });
        }
    }

    /// Keeps what the float file scored, and sets what the compressed one does beside it.
    fn compare(&mut self, examined: Vec<Examined>) {
        let Some(float) = self.examined.take() else {
            self.examined = Some(examined);
            return;
        };
        let figure = |of: &Examined| {
            let told = of.with_interval();
            Figure { value: told.value, interval: told.interval }
        };
        if let ([float, ..], [result, ..]) = (&float[..], &examined[..]) {
            self.done.samples = Samples { float: float.each(), result: result.each() };
        }
        let rows = float.iter().zip(&examined).map(|(float, result)| QualityRow {
            metric: result.measurement.metric.clone(),
            float: (!result.is_distance).then(|| figure(float)),
            result: figure(result),
            lost: result.since(float).filter(|_| !result.is_distance).map(|Paired { low, high, p }| LostRow { low, high, p }),
            runtime: "ONNX Runtime".into(),
            samples: result.measurement.samples,
        });
        self.done.quality = rows.collect();
    }

    /// Loads and runs a file once, scores it over the whole test split and times it. Without the runtime the row says "not verified"; a file
    /// that does not load or run is no artefact, but set aside and an error.
    fn in_onnx_runtime(&mut self, file: &Path, of: &Model, mut row: MeasuredRow) -> Result<MeasuredRow, ArtefactError> {
        let plan = self.plan;
        let first = match plan.data.test.batches(1, Order::Stored).next().transpose()? {
            Some(batch) => Some(first_step(&of.graph, &batch.inputs).map_err(ExecError::from)?),
            None => None,
        };
        let (opened, peak) = peak_memory(|| {
            let mut runtime = OnnxRuntime::open(file)?;
            if let Some(inputs) = &first {
                let _answer = runtime.run(inputs)?;
            }
            Ok::<_, RuntimeError>(runtime)
        });
        let mut runtime = match opened {
            Ok(runtime) => runtime,
            Err(e @ (RuntimeError::Absent | RuntimeError::Load { .. })) => {
                row.note = Some(format!("not verified: {e}"));
                return Ok(row);
            }
            Err(e) => return Err(set_aside(file, e.to_string())),
        };
        let mut predict = |inputs: &[tch::Tensor]| {
            let answer = runtime.answer(&of.graph, inputs).map_err(|e| TaskError::Runtime(e.to_string()))?;
            if answer.is_empty() { Err(TaskError::NoOutput) } else { Ok(answer) }
        };
        let examined = examine(&mut predict, &plan.data.test, plan.data.task, &plan.metrics(), Some(self.float.model));
        let examined = examined.map_err(|e| match e {
            TaskError::Data(e) => e.into(),
            e => set_aside(file, e.to_string()),
        })?;
        let quality = examined[0].measurement.clone();
        self.compare(examined);
        row.value = Some(quality.value);
        let agreement = Agreement::measure(of, &plan.data, plan.config.seed, &mut runtime)?;
        row.equal = agreement.equal();
        let apart = quality.metric.degradation(row.simulated, quality.value).share;
        if agreement.is_broken(apart) {
            let text = |value: f64| quality.metric.text(value);
            let mut said = format!(
                "ONNX Runtime does not answer as the simulation does: {} against {} simulated; {}",
                text(quality.value),
                text(row.simulated),
                agreement.text()
            );
            let scratch = tempfile::tempdir().map_err(ArtefactError::io(&std::env::temp_dir()))?;
            // Telling where is a help; that it can't be told is no reason to fail.
            if let Ok(Some(place)) = first_that_differs(of, &plan.data.test, scratch.path()) {
                said += &format!("; {place}");
            }
            row.note = Some(said);
        }
        row.peak_memory = peak;
        if let Some(inputs) = first {
            let (median, p95) = runtime.latency(&inputs, LATENCY_RUNS)?;
            row.latency_median = Some(median.as_secs_f64() * 1e3);
            row.latency_p95 = Some(p95.as_secs_f64() * 1e3);
        }
        Ok(row)
    }
}

/// Takes the name from a file that is no artefact, and says where it lies.
fn set_aside(file: &Path, reason: String) -> ArtefactError {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".broken");
    let aside = file.with_file_name(name);
    let kept = std::fs::rename(file, &aside).is_ok().then_some(aside);
    ArtefactError::Refused { reason, kept }
}
