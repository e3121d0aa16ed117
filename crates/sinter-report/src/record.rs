//! The record of a run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sinter_task::Metric;

use crate::error::ReportError;

/// Everything that a run leaves to tell; `run.json` is this as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of Sinter.
    pub version: String,
    pub pipeline: String,
    /// The run's folder name.
    pub run: String,
    /// When it began, UTC, RFC 3339.
    pub started: String,
    pub seconds: f64,
    pub seed: u64,
    pub machine: String,
    pub model: String,
    pub data: String,
    pub target: String,
    /// The pipeline with every default filled in, as YAML.
    pub config: String,
    /// The answer in one line.
    pub summary: String,
    /// What quality is measured by.
    pub metric: Metric,
    pub stages: Vec<StageRow>,
    pub layers: Vec<LayerRow>,
    pub curves: Vec<CurveRow>,
    /// What scans found, where a stage asked for one.
    #[serde(default)]
    pub sensitivity: Vec<SensitivityRow>,
    #[serde(default)]
    pub budget: Vec<BudgetRow>,
    pub artifacts: Vec<ArtifactRow>,
    pub measured: Vec<MeasuredRow>,
    pub classes: Vec<String>,
    pub notes: Vec<String>,
    /// What the energy floor rests on.
    pub energy_source: String,
    /// What the board's energy and latency rest on, where the target has a board.
    #[serde(default)]
    pub board: Option<BoardRow>,
    /// What the compiler of the target's accelerator says.
    #[serde(default)]
    pub npu: Option<NpuRow>,
    /// How the values of each layer's weight lie, before and after.
    #[serde(default)]
    pub weights: Vec<WeightsRow>,
    /// Quantized values between layers.
    #[serde(default)]
    pub ranges: Vec<RangeRow>,
    /// `confusion[label][predicted]` of the float model and of the result, on the test split.
    #[serde(default)]
    pub confusion: Option<[Vec<Vec<u32>>; 2]>,
    /// Name and version of what the figures rest on.
    #[serde(default)]
    pub versions: Vec<(String, String)>,
    /// How the run was started.
    #[serde(default)]
    pub command: String,
}

/// What the estimates for a board rest on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BoardRow {
    pub name: String,
    pub source: String,
    /// The software that was measured.
    pub energy_software: Option<String>,
    pub latency_software: Option<String>,
    /// Joules a multiply-accumulate: the least and the most of all software on this board.
    pub published: Option<(f64, f64)>,
}

/// What Arm's Vela says of the model on an Ethos-U.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NpuRow {
    /// The compiler and its version.
    pub tool: String,
    pub accelerator: String,
    /// Clock cycles of one inference.
    pub cycles: u64,
    /// Seconds of one inference at the target's clock.
    pub seconds: f64,
    /// Bytes.
    pub sram: u64,
    pub flash: u64,
    /// Operators that do not run on the accelerator.
    pub on_cpu: Vec<String>,
}

/// How the values of one weight lie.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsRow {
    pub layer: String,
    /// The ends of the histogram.
    pub low: f64,
    pub high: f64,
    /// Weights in each of equal bins; zeros are not counted.
    pub before: Vec<u64>,
    pub after: Vec<u64>,
    /// The distinct values that are left, where they are few.
    pub values: Vec<f64>,
}

/// A quantized value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeRow {
    pub value: String,
    pub bits: u8,
    pub scale: f64,
    pub zero_point: i64,
    /// What the quantizer can hold.
    pub low: f64,
    pub high: f64,
    /// What calibration saw.
    pub seen_low: Option<f64>,
    pub seen_high: Option<f64>,
}

/// The model after one stage. Stage 0 is the model as it came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    pub index: usize,
    /// `1-train`, `2-prune`, ...
    pub stage: String,
    /// What the stage was asked to do, in a few words.
    pub what: String,
    pub cached: bool,
    pub seconds: f64,
    /// Bytes of the packed file, written and read back.
    pub packed_bytes: u64,
    /// Bytes of the float32 ONNX file of the model as it is here.
    pub onnx_float_bytes: u64,
    pub parameters: u64,
    pub nonzero: u64,
    pub macs: u64,
    /// The metric on the test split.
    pub value: f64,
    pub top5: Option<f64>,
    /// Estimated energy floor per inference, joules.
    pub energy_floor: f64,
    /// Estimated energy on the target's boards, joules.
    pub energy_low: Option<f64>,
    #[serde(default)]
    pub energy_middle: Option<f64>,
    pub energy_high: Option<f64>,
    /// Estimated seconds per inference on the target's boards.
    #[serde(default)]
    pub latency_low: Option<f64>,
    #[serde(default)]
    pub latency_middle: Option<f64>,
    #[serde(default)]
    pub latency_high: Option<f64>,
    /// Estimated bytes of activations, planned by lifetime.
    #[serde(default)]
    pub ram: u64,
    /// Bytes of weights as a device's kernels read them.
    #[serde(default)]
    pub flash: u64,
}

/// What the budget asked for and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// `accuracy_drop`, `flash`, `ram`, `latency` or `energy`.
    pub what: String,
    pub limit: String,
    /// With where it comes from: measured, or estimated.
    pub value: String,
    pub met: bool,
    /// Of a budget that was missed: what costs most.
    pub worst: Vec<String>,
}

/// One layer after one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    pub stage_index: usize,
    pub stage: String,
    pub layer: String,
    pub kind: String,
    pub shape: String,
    pub parameters: u64,
    pub sparsity: f64,
    pub encoding: String,
    /// Bits of a stored symbol: an index of a codebook, an integer of a quantizer, or a float.
    #[serde(default)]
    pub bits: f64,
    pub macs: u64,
    /// The layer's share of the packed file, bytes.
    pub packed_bytes: f64,
}

/// One epoch of training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    pub stage: String,
    pub epoch: usize,
    pub loss: f64,
    /// The metric on the validation split, where there is one.
    pub value: Option<f64>,
    pub seconds: f64,
}

/// What quality is lost when a layer alone is compressed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRow {
    pub stage: String,
    pub layer: String,
    /// Whether its weight was rounded to fewer bits; else a share of its weights or channels was removed.
    pub bits: bool,
    /// The bits, or the share.
    pub at: f64,
    /// In the metric's unit.
    pub lost: f64,
}

/// A file that the run left.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArtifactRow {
    /// Relative to the run's folder.
    pub path: String,
    pub what: String,
    pub bytes: u64,
    /// Of source: bytes of code and constants when compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash: Option<u64>,
    /// Of source: bytes of static memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<u64>,
    /// Of source: which compiler said so, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An artefact measured in a real runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRow {
    pub artifact: String,
    pub runtime: String,
    /// The metric on the test split, from the runtime; `None`: not measured.
    pub value: Option<f64>,
    /// The same from Sinter's own interpreter.
    pub simulated: f64,
    /// Milliseconds for one sample on one thread.
    pub latency_median: Option<f64>,
    pub latency_p95: Option<f64>,
    /// Bytes that opening the file and one inference took at most.
    #[serde(default)]
    pub peak_memory: Option<u64>,
    /// Why there is no value.
    pub note: Option<String>,
}

impl RunRecord {
    /// Reads the record of a run from its folder.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let path = folder.join("run.json");
        let fail = |reason: String| ReportError::NoRun { path: folder.to_path_buf(), reason };
        let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound if folder.is_dir() => {
                fail("neither it nor a folder in it holds a run.json: name what `sinter run` wrote, such as reports/NAME".into())
            }
            _ => fail(format!("run.json: {e}")),
        })?;
        serde_json::from_slice(&bytes).map_err(|e| fail(format!("run.json: {e}")))
    }

    /// What a real runtime made of the exported model.
    pub fn exported(&self) -> Option<&MeasuredRow> {
        self.measured.iter().find(|m| m.artifact.ends_with("model.onnx"))
    }

    /// The model as it came.
    pub fn first(&self) -> Option<&StageRow> {
        self.stages.first()
    }

    /// The model as it left.
    pub fn last(&self) -> Option<&StageRow> {
        self.stages.last()
    }

    /// The reference that losses are told against: the best float model, after the training stages at the front.
    pub fn float(&self) -> Option<&StageRow> {
        let trained = self.stages.iter().take_while(|s| s.index == 0 || s.stage.ends_with("-train")).last();
        trained.or(self.first())
    }

    /// How much worse than the float model, as text.
    pub fn loss_text(&self, value: f64) -> String {
        self.float().map_or_else(String::new, |float| self.metric.loss_text(float.value, value))
    }

    /// The run's name among others.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.pipeline, self.run.get(..8.min(self.run.len())).unwrap_or(&self.run))
    }

    /// A class's name.
    pub(crate) fn class(&self, index: usize) -> String {
        self.classes.get(index).cloned().unwrap_or_else(|| index.to_string())
    }

    /// What the result scores: in its real runtime, where that was measured.
    pub(crate) fn final_value(&self) -> f64 {
        let measured = self.exported().and_then(|m| m.value);
        measured.unwrap_or(self.last().map_or(0.0, |s| s.value))
    }

    /// Milliseconds of the exported file in its runtime.
    pub(crate) fn exported_latency(&self) -> Option<f64> {
        self.exported().and_then(|m| m.latency_median)
    }

    /// How many times smaller the last packed file is than the float32 ONNX file of the float model.
    pub fn ratio(&self) -> f64 {
        match (self.float(), self.last()) {
            (Some(float), Some(last)) => float.onnx_float_bytes as f64 / last.packed_bytes.max(1) as f64,
            _ => 1.0,
        }
    }
}
