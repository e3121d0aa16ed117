//! From a pipeline file to a plan that can run.

use std::path::{Path, PathBuf};

use sinter_data::{DataConfig, DataError, Dataset, Task};
use sinter_estimate::{GENERIC, Quantity, Target};
use sinter_model::{Dim, ElementType, Model};
use sinter_train::{StageError, TeacherRef};

use crate::config::{ModelConfig, PipelineConfig};
use crate::diagnostic::{ConfigError, Source};
use crate::key::Key;

/// A pipeline that was read, opened and checked.
#[derive(Debug)]
pub struct Plan {
    pub config: PipelineConfig,
    pub data_config: DataConfig,
    pub target: Target,
    pub data: Dataset,
    /// The model as it came.
    pub model: Model,
    /// The pipeline file.
    pub path: PathBuf,
    /// The folder that paths of the pipeline are relative to.
    pub folder: PathBuf,
    /// Key of the model as it came, and after each stage.
    pub(crate) keys: Vec<String>,
}

impl Plan {
    /// Reads and checks everything; nothing is written. A `seed` takes the place of the pipeline's own.
    pub fn read(path: &Path, seed: Option<u64>) -> Result<Self, ConfigError> {
        let source = Source::read(path)?;
        let mut config: PipelineConfig = source.parse()?;
        config.seed = seed.unwrap_or(config.seed);
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        check_name(&config, &source)?;
        let data_path = folder.join(&config.data);
        let data_source = Source::read(&data_path).map_err(|e| {
            source.error("data", e.message, Some("`data` names a data file, relative to the pipeline file".into()))
        })?;
        let mut data_config: DataConfig = data_source.parse()?;
        data_config.rebase(data_path.parent().unwrap_or(Path::new("")));
        let mut target = match &config.target {
            Some(target) => {
                let found = Source::read(&folder.join(target)).map_err(|e| {
                    source.error("target", e.message, Some("`target` names a target file, relative to the pipeline file".into()))
                })?;
                parse_target(&found)?
            }
            None => GENERIC.clone(),
        };
        if target.quantization.is_none() && config.export.iter().any(|e| e.is_for_devices()) {
            target.quantization = sinter_estimate::TFLITE.quantization.clone();
        }
        check_budget(&config, &target, &source)?;
        let data = Dataset::open(&data_config).map_err(|e| data_error(&e, &data_source))?;
        if data.test.is_empty() {
            let help = Some("give a test split, or a share under `split: { test: 20% }`".into());
            return Err(data_source.error("source", format!("data set `{}` has no test samples to measure on", data.name), help));
        }
        let model = load_model(&config, &folder, &data, &source)?;
        check_input(&model, &data, &source)?;
        check_output(&model, &data, &source)?;
        check_stages(&config, &model, &data, &source)?;
        check_exports(&config, &model, &source)?;
        let keys = keys(&config, &data_config, &target, &model, &folder)
            .map_err(|e| ConfigError::plain(format!("could not read an input: {e}"), None))?;
        Ok(Self { config, data_config, target, data, model, path: path.to_path_buf(), folder, keys })
    }

    /// The name of stage `index` (counted from 1): `1-train`.
    pub fn stage_name(&self, index: usize) -> String {
        match self.config.stages.get(index.wrapping_sub(1)) {
            Some(stage) => format!("{index}-{}", stage.stage().name()),
            None => "0-input".to_string(),
        }
    }

    /// The number of stages at the front that train the float model.
    pub(crate) fn training_stages(&self) -> usize {
        self.config.stages.iter().take_while(|s| s.stage().is_training()).count()
    }

    /// The index of the stage that a teacher reference names, counted from 1; 0 is the input. The last one of that name before `before`.
    pub(crate) fn teacher_stage(&self, name: &str, before: usize) -> Option<usize> {
        (1..before).rev().find(|&i| self.stage_name(i) == name || self.config.stages[i - 1].stage().name() == name)
    }
}

/// A target whose facts hang together.
pub(crate) fn parse_target(source: &Source) -> Result<Target, ConfigError> {
    let target: Target = source.parse()?;
    match target.board.as_ref().map(|b| b.system()) {
        Some(Err(message)) => Err(source.error("board.software", message, None)),
        _ => Ok(target),
    }
}

fn check_name(config: &PipelineConfig, source: &Source) -> Result<(), ConfigError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if config.name.is_empty() || !config.name.chars().all(fine) || config.name.starts_with('.') {
        let help = Some("use letters, digits, `-`, `_` and `.`: the name becomes a folder".into());
        return Err(source.error("name", format!("`{}` can't name a folder", config.name), help));
    }
    Ok(())
}

fn data_error(error: &DataError, source: &Source) -> ConfigError {
    let help = match error {
        DataError::Missing { hint: Some(hint), .. } => Some(hint.clone()),
        DataError::Missing { .. } => Some("paths are relative to the data file".into()),
        _ => None,
    };
    let message = match error {
        DataError::Missing { path, .. } => format!("data file {} is missing", path.display()),
        other => other.to_string(),
    };
    source.error("source", message, help)
}

fn load_model(config: &PipelineConfig, folder: &Path, data: &Dataset, source: &Source) -> Result<Model, ConfigError> {
    let ModelConfig { zoo, onnx, classes, dims } = &config.model;
    match (zoo, onnx) {
        (Some(zoo), None) => {
            if !dims.is_empty() {
                return Err(source.error("model.dims", "`dims` goes with `onnx`", None));
            }
            tch::manual_seed(config.seed as i64);
            let classes = match (classes, data.task, data.classes.len()) {
                (Some(classes), ..) => *classes,
                (None, Task::Classify, n) if n > 0 => n as i64,
                _ => zoo.default_classes(),
            };
            zoo.build(&data.shape(), classes).map_err(|e| {
                let help = format!("data set `{}` gives samples of shape {:?}", data.name, data.shape());
                source.error("model.zoo", e.to_string(), Some(help))
            })
        }
        (None, Some(onnx)) => {
            if classes.is_some() {
                return Err(source.error("model.classes", "`classes` goes with `zoo`", None));
            }
            let options = sinter_onnx::Options { dims: dims.clone() };
            let path = folder.join(onnx);
            sinter_onnx::load(&path, &options).map_err(|e| {
                let message = match &e {
                    sinter_onnx::OnnxError::Read { .. } => e.to_string(),
                    other => format!("{}: {other}", path.display()),
                };
                let help = matches!(e, sinter_onnx::OnnxError::Read { .. })
                    .then(|| "`onnx` is relative to the pipeline file".to_string());
                source.error("model.onnx", message, help)
            })
        }
        _ => {
            let help = Some("write `model: { zoo: lenet5 }` or `model: { onnx: PATH }`".into());
            Err(source.error("model", "the model needs exactly one of `zoo` and `onnx`", help))
        }
    }
}

/// The model must take what the data gives.
fn check_input(model: &Model, data: &Dataset, source: &Source) -> Result<(), ConfigError> {
    let shape = data.shape();
    let [input] = model.graph.inputs.as_slice() else {
        let names: Vec<&str> = model.graph.inputs.iter().map(|i| i.name.as_str()).collect();
        let message = format!("the model has {} inputs ({}); data sets give one", names.len(), names.join(", "));
        return Err(source.error("model", message, None));
    };
    let fits = input.shape.len() == shape.len() + 1
        && input.shape[1..].iter().zip(&shape).all(|(dim, n)| matches!(dim, Dim::Fixed(m) if m == n));
    if !fits || !input.is_batched() {
        let help = match input.is_batched() {
            true => "use data of that shape, or resize it in the data file",
            false => "export the model with a free batch dimension",
        };
        let message = format!(
            "the model's input `{}` is {}, the data set `{}` gives samples of shape {shape:?}",
            input.name,
            input.shape_text(),
            data.name
        );
        return Err(source.error("model", message, Some(help.into())));
    }
    if input.element != ElementType::Float {
        return Err(source.error("model", format!("the model's input `{}` is not float32", input.name), None));
    }
    Ok(())
}

/// A classifier must know every class of the data; a reconstruction must have the input's size.
fn check_output(model: &Model, data: &Dataset, source: &Source) -> Result<(), ConfigError> {
    let shapes = sinter_exec::shapes(model).map_err(|e| source.error("model", e.to_string(), None))?;
    let output = model.graph.outputs.first().and_then(|o| shapes.get(&o.name)).cloned().unwrap_or_default();
    let per_sample: i64 = output.iter().skip(1).product();
    let (wanted, what) = match data.task {
        Task::Reconstruct => (data.shape().iter().product::<i64>(), "values to reconstruct"),
        Task::Classify => (data.classes.len() as i64, "classes"),
    };
    let wrong = match data.task {
        Task::Reconstruct => per_sample != wanted,
        Task::Classify => data.test.is_labelled() && (per_sample < wanted || output.len() != 2),
    };
    if wrong {
        let message =
            format!("the model's output is {output:?} for one sample, the data set `{}` has {wanted} {what}", data.name);
        return Err(source.error("model", message, None));
    }
    Ok(())
}

fn check_stages(config: &PipelineConfig, model: &Model, data: &Dataset, source: &Source) -> Result<(), ConfigError> {
    let names: Vec<&str> = config.stages.iter().map(|s| s.stage().name()).collect();
    for (i, stage) in config.stages.iter().enumerate() {
        let stage = stage.stage();
        let path = format!("stages[{i}].{}", stage.name());
        stage.check(model, data).map_err(|e| match e {
            StageError::Config { key, reason, help } => {
                let at = if key.is_empty() { path.clone() } else { format!("{path}.{key}") };
                source.error(&at, reason, help)
            }
            other => source.error(&path, other.to_string(), None),
        })?;
        for teacher in stage.teachers() {
            let TeacherRef::Stage(name) = &teacher else { continue };
            let known = (0..i).any(|j| names[j] == name || format!("{}-{}", j + 1, names[j]) == *name);
            if !known {
                let before: Vec<String> = (0..i).map(|j| format!("stage:{}", names[j])).collect();
                let help = if before.is_empty() {
                    "no stage comes before".into()
                } else {
                    format!("before it come {}", before.join(", "))
                };
                return Err(source.error(
                    &format!("{path}.teacher"),
                    format!("the teacher `{teacher}` names no earlier stage"),
                    Some(help),
                ));
            }
        }
    }
    Ok(())
}

/// A limit on what nobody can tell is no limit.
fn check_budget(config: &PipelineConfig, target: &Target, source: &Source) -> Result<(), ConfigError> {
    let Some(budget) = &config.budget else { return Ok(()) };
    let published = |quantity| target.board.as_ref().is_some_and(|b| b.measured(quantity).is_some());
    let unknown = [
        ("latency", budget.latency.is_some() && target.vela.is_none() && !published(Quantity::Latency)),
        ("energy", budget.energy.is_some() && !published(Quantity::Energy)),
    ];
    match unknown.into_iter().find(|(_, unknown)| *unknown) {
        Some((what, _)) => {
            let help = format!("take a target with published {what} results, such as configs/targets/cortex-m4.yaml");
            Err(source.error(&format!("budget.{what}"), format!("target `{}` has no figures of {what}", target.name), Some(help)))
        }
        None => Ok(()),
    }
}

/// Operators that a format lacks are found before anything runs.
fn check_exports(config: &PipelineConfig, model: &Model, source: &Source) -> Result<(), ConfigError> {
    if config.export.iter().any(|e| e.is_for_devices()) {
        sinter_export::device::lower(model).map_err(|e| {
            let help = "leave `tflite` and `c` out of `export`, or replace the operator in the model".to_string();
            source.error("export", format!("this model has no TFLite file: {e}"), Some(help))
        })?;
    }
    Ok(())
}

/// The key of each model along the pipeline: of all that it depends on.
fn keys(
    config: &PipelineConfig,
    data: &DataConfig,
    target: &Target,
    model: &Model,
    folder: &Path,
) -> std::io::Result<Vec<String>> {
    let mut key = Key::new();
    key.config("seed", &config.seed);
    match &config.model.onnx {
        None => key.config("zoo", &config.model),
        // The model as loaded: its tensors may lie in other files than the one that is named.
        Some(_) => key.bytes("onnx", &sinter_onnx::export(model).map_err(std::io::Error::other)?),
    }
    // Where the data lies does not matter, what it holds does.
    let mut described = serde_json::to_value(data).unwrap_or_default();
    strip_paths(&mut described);
    key.text("data", &described.to_string());
    for file in data.files() {
        key.file(&file)?;
    }
    let mut keys = vec![key.name()];
    for stage in &config.stages {
        key.config("stage", stage);
        if stage.stage().heeds_target() {
            key.config("target", target);
        }
        for teacher in stage.stage().teachers() {
            if let TeacherRef::Onnx(path) = teacher {
                key.file(&folder.join(path))?;
            }
        }
        keys.push(key.name());
    }
    Ok(keys)
}

/// Removes what only says where files lie.
fn strip_paths(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(map) = value {
        map.retain(|key, _| !matches!(key.as_str(), "folder" | "path" | "hint"));
        map.values_mut().for_each(strip_paths);
    }
}
