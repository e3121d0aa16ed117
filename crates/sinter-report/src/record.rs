//! The record of a run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sinter_task::Metric;

use crate::certificate::CertificateTable;
use crate::error::ReportError;
use crate::quality::{MeasuredRow, QualityRow};

/// Everything that a run leaves to tell; `run.json` is this as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of Sinter.
    pub version: String,
    /// Its name.
    pub pipeline: String,
    /// The run's folder name.
    pub run: String,
    /// When it began, UTC, RFC 3339.
    pub started: String,
    /// What the stages took when they were done.
    pub seconds: f64,
    /// Same seed, same machine: same result.
    pub seed: u64,
    /// The processor and its threads.
    pub machine: String,
    /// Its name.
    pub model: String,
    /// Its name.
    pub data: String,
    /// Its name.
    pub target: String,
    /// The pipeline with every default filled in, as YAML.
    pub config: String,
    /// The answer in one line.
    pub summary: String,
    /// What quality is measured by: `metric` holds its name, `metric_facts` how its values are written and compared.
    #[serde(flatten, with = "crate::metric_field")]
    pub metric: Metric,
    /// The model as it came, then one a stage.
    pub stages: Vec<StageRow>,
    /// One a layer and stage.
    pub layers: Vec<LayerRow>,
    /// One an epoch.
    pub curves: Vec<CurveRow>,
    /// What scans found, where a stage asked for one.
    #[serde(default)]
    pub sensitivity: Vec<SensitivityRow>,
    /// One a limit.
    #[serde(default)]
    pub budget: Vec<BudgetRow>,
    /// What was left.
    pub artifacts: Vec<ArtifactRow>,
    /// What holds of the integer model for every input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateTable>,
    /// What real runtimes made of it.
    pub measured: Vec<MeasuredRow>,
    /// One a metric.
    #[serde(default)]
    pub quality: Vec<QualityRow>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What the stages found worth saying.
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
    /// Its name.
    pub name: String,
    /// Where the results stand.
    pub source: String,
    /// The software that was measured.
    pub energy_software: Option<String>,
    /// The same for latency.
    pub latency_software: Option<String>,
    /// Joules a multiply-accumulate: the least and the most of all software on this board.
    pub published: Option<(f64, f64)>,
}

/// What Arm's Vela says of the model on an Ethos-U.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NpuRow {
    /// The compiler and its version.
    pub tool: String,
    /// As Vela calls it.
    pub accelerator: String,
    /// Clock cycles of one inference.
    pub cycles: u64,
    /// Seconds of one inference at the target's clock.
    pub seconds: f64,
    /// Bytes.
    pub sram: u64,
    /// Bytes of weights and commands.
    pub flash: u64,
    /// Operators that do not run on the accelerator.
    pub on_cpu: Vec<String>,
}

/// How the values of one weight lie.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsRow {
    /// Its name.
    pub layer: String,
    /// The ends of the histogram.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Weights in each of equal bins; zeros are not counted.
    pub before: Vec<u64>,
    /// The same of the result.
    pub after: Vec<u64>,
    /// The distinct values that are left, where they are few.
    pub values: Vec<f64>,
}

/// A quantized value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeRow {
    /// Its name.
    pub value: String,
    /// Of an integer.
    pub bits: u8,
    /// The step between two levels.
    pub scale: f64,
    /// The integer that stands for zero.
    pub zero_point: i64,
    /// What the quantizer can hold.
    pub low: f64,
    /// The greatest value it can hold.
    pub high: f64,
    /// What calibration saw.
    pub seen_low: Option<f64>,
    /// The greatest.
    pub seen_high: Option<f64>,
}

/// The model after one stage. Stage 0 is the model as it came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    /// Counted from 1; 0 is the model as it came.
    pub index: usize,
    /// `1-train`, `2-prune`, ...
    pub stage: String,
    /// What the stage was asked to do, in a few words.
    pub what: String,
    /// Whether an earlier run did it.
    pub cached: bool,
    /// What it took when it was done.
    pub seconds: f64,
    /// Bytes of the packed file, written and read back.
    pub packed_bytes: u64,
    /// Bytes of the float32 ONNX file of the model as it is here.
    pub onnx_float_bytes: u64,
    /// Stored numbers that are part of the model.
    pub parameters: u64,
    /// Those of them that are not zero.
    pub nonzero: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// The metric on the test split.
    pub value: f64,
    /// Share of samples whose label is among the five largest outputs.
    pub top5: Option<f64>,
    /// Estimated energy floor per inference, joules.
    pub energy_floor: f64,
    /// Estimated energy on the target's boards, joules.
    pub energy_low: Option<f64>,
    /// The estimate within the interval.
    #[serde(default)]
    pub energy_middle: Option<f64>,
    /// The upper end of the interval.
    pub energy_high: Option<f64>,
    /// Estimated seconds per inference on the target's boards.
    #[serde(default)]
    pub latency_low: Option<f64>,
    /// The estimate within the interval.
    #[serde(default)]
    pub latency_middle: Option<f64>,
    /// The upper end of the interval.
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
    /// What was asked for.
    pub limit: String,
    /// With where it comes from: measured, or estimated.
    pub value: String,
    /// Whether it was kept.
    pub met: bool,
    /// Of a budget that was missed: what costs most.
    pub worst: Vec<String>,
}

/// One layer after one stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Of the stage.
    pub stage_index: usize,
    /// Its name.
    pub stage: String,
    /// The layer's name.
    pub layer: String,
    /// Its operator.
    pub kind: String,
    /// Of its weight.
    pub shape: String,
    /// Elements of its weight.
    pub parameters: u64,
    /// Share of zeros.
    pub sparsity: f64,
    /// Its chain in words.
    pub encoding: String,
    /// Bits of a stored symbol: an index of a codebook, an integer of a quantizer, or a float.
    #[serde(default)]
    pub bits: f64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// The layer's share of the packed file, bytes.
    pub packed_bytes: f64,
}

/// One epoch of training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// Its name.
    pub stage: String,
    /// Counted from 1.
    pub epoch: usize,
    /// The mean over the epoch.
    pub loss: f64,
    /// The metric on the validation split, where there is one.
    pub value: Option<f64>,
    /// What it took.
    pub seconds: f64,
}

/// What quality is lost when a layer alone is compressed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SensitivityRow {
    /// Its name.
    pub stage: String,
    /// The layer's name.
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
    /// What it is for.
    pub what: String,
    /// Its size.
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
