//! Names of results: the hash of all that they depend on, which stays readable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sinter_data::DataConfig;
use sinter_model::Model;
use sinter_task::MetricChoice;
use sinter_train::{StepPlan, TeacherRef};

use crate::config::{ModelConfig, PipelineConfig};

/// Raised when a change of code changes what a stage computes, so that old results are not taken for new.
const EPOCH: u32 = 15;

/// What a result depends on. The plan of a stage holds all of its configuration that counts; exports and later stages do not.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Dependencies {
    sinter: &'static str,
    epoch: u32,
    seed: u64,
    metric: Option<MetricChoice>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<MetricChoice>,
    model: ModelConfig,
    data: serde_json::Value,
    /// blake3 of the files, by what they are.
    files: BTreeMap<String, String>,
    stages: Vec<StepPlan>,
}

/// A result's name, and what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// 24 hexadecimal digits.
    pub name: String,
    /// What the result depends on, as JSON.
    pub depends: serde_json::Value,
}

impl Key {
    /// The key of whatever depends on a value.
    pub fn of(depends: &impl Serialize) -> Self {
        let depends = serde_json::to_value(depends).unwrap_or_default();
        // Maps of a JSON value are sorted, so the text is one for one value.
        let name = blake3::hash(depends.to_string().as_bytes()).to_hex()[..24].to_string();
        Self { name, depends }
    }
}

impl Dependencies {
    /// Of the model as it came, and of data with blake3 of its files. Errors name the file that could not be read.
    pub fn of_input(
        config: &PipelineConfig,
        (data, mut files): (&DataConfig, BTreeMap<String, String>),
        model: &Model,
    ) -> Result<Self, String> {
        let mut described = config.model.clone();
        let read = [("onnx", described.onnx.take()), ("huggingface", described.huggingface.take())];
        for (kind, _) in read.iter().filter(|(_, path)| path.is_some()) {
            files.insert(kind.to_string(), hash_model(model)?);
        }
        // Where the data lies does not matter, what it holds does.
        let mut data = serde_json::to_value(data).unwrap_or_default();
        strip(&mut data, &["folder", "path", "hint", "tokenizer"]);
        // A second file; under `split` the word means a share of the samples.
        if let Some(source) = data.get_mut("source") {
            strip(source, &["test"]);
        }
        for metric in config.metric.iter().chain(&config.metrics) {
            for file in metric.files() {
                files.insert(format!("metric {}", file.display()), hash_path(&file)?);
            }
        }
        let (sinter, epoch, seed, metric) = (env!("CARGO_PKG_VERSION"), EPOCH, config.seed, config.metric.clone());
        let metrics = config.metrics.clone();
        Ok(Self { sinter, epoch, seed, metric, metrics, model: described, data, files, stages: vec![] })
    }

    /// With one stage more, and its teachers that came as files.
    pub fn push(&mut self, plan: &StepPlan, teachers: &[(TeacherRef, Model)]) -> Result<(), String> {
        self.stages.push(plan.clone());
        for (teacher, model) in teachers {
            self.files.insert(format!("teacher {teacher}"), hash_model(model)?);
        }
        Ok(())
    }
}

/// Of a model as loaded: its tensors may lie in other files than the one that is named.
fn hash_model(model: &Model) -> Result<String, String> {
    let bytes = sinter_onnx::export(model).map_err(|e| e.to_string())?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// Of a file, or of every file of a folder in the order of their names.
pub(super) fn hash_path(path: &Path) -> Result<String, String> {
    let mut hasher = blake3::Hasher::new();
    add(&mut hasher, path).map_err(|e| format!("could not read {}: {e}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn add(hasher: &mut blake3::Hasher, path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        text(hasher, "folder");
        let mut entries = std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
        entries.sort();
        for entry in entries {
            text(hasher, &entry.file_name().unwrap_or_default().to_string_lossy());
            add(hasher, &entry)?;
        }
        hasher.update(b"end of folder");
        return Ok(());
    }
    let file = std::fs::File::open(path)?;
    text(hasher, &file.metadata()?.len().to_string());
    hasher.update_reader(file).map(drop)
}

/// A text with its length, so that no two sequences of texts are one.
fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Removes these keys, wherever they stand.
fn strip(value: &mut serde_json::Value, keys: &[&str]) {
    if let serde_json::Value::Object(map) = value {
        map.retain(|key, _| !keys.contains(&key.as_str()));
        map.values_mut().for_each(|value| strip(value, keys));
    }
}
