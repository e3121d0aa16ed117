//! ONNX files, and what ONNX Runtime makes of them.

use std::path::Path;

use sinter_data::Order;
use sinter_export::{OnnxRuntime, RuntimeError, explicit, peak_memory};
use sinter_onnx::Storage;
use sinter_report::MeasuredRow;
use sinter_task::{TaskError, evaluate_with};

use super::{ArtefactError, Writer};

/// How often an inference is timed.
const LATENCY_RUNS: usize = 200;

impl Writer<'_> {
    /// The compressed model, and the float one to compare it with.
    pub(super) fn onnx(&mut self) -> Result<(), ArtefactError> {
        let (ours, base) = (self.place("model.onnx"), self.place("float.onnx"));
        sinter_onnx::save(self.float.model, &base, Storage::Inside)?;
        self.add("float.onnx", "The float32 model before compression, to compare with")?;
        explicit(self.result.model)?.save(&ours)?;
        let what = match self.result.model.activations.is_empty() {
            true => "The compressed model as ONNX",
            false => "The compressed model as ONNX with QuantizeLinear and DequantizeLinear",
        };
        self.add("model.onnx", what)?;
        for (file, name, simulated) in [
            (base, "artifacts/float.onnx", self.measured.0.quality.value),
            (ours, "artifacts/model.onnx", self.measured.1.quality.value),
        ] {
            let row = self.in_onnx_runtime(
                &file,
                MeasuredRow { artifact: name.to_string(), runtime: "ONNX Runtime".into(), simulated, ..MeasuredRow::default() },
            )?;
            self.done.measured.push(row);
        }
        Ok(())
    }

    /// Scores a file over the whole test split and times it. Without the runtime the row says "not measured".
    fn in_onnx_runtime(&self, file: &Path, mut row: MeasuredRow) -> Result<MeasuredRow, ArtefactError> {
        let plan = self.plan;
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
        let mut predict = |x: &tch::Tensor| runtime.run(x).map_err(|e| TaskError::Runtime(e.to_string()));
        let (metric, float) = (plan.config.metric.as_ref(), Some(self.float.model));
        match evaluate_with(&mut predict, &plan.data.test, plan.data.task, metric, float) {
            Ok(quality) => row.value = Some(quality.value),
            // A file that the runtime refuses is told, and takes nothing else with it.
            Err(e) => {
                row.note = Some(e.to_string());
                return Ok(row);
            }
        }
        row.peak_memory = peak;
        if let Some(batch) = first {
            let (median, p95) = runtime.latency(&batch.x, LATENCY_RUNS)?;
            row.latency_median = Some(median.as_secs_f64() * 1e3);
            row.latency_p95 = Some(p95.as_secs_f64() * 1e3);
        }
        Ok(row)
    }
}
