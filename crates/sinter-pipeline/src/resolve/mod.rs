//! From a pipeline file to a plan that can run.

mod checks;
mod key;
mod model;
mod opened;
mod outline;
mod stages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sinter_data::{DataConfig, Dataset};
use sinter_estimate::{GENERIC, Target};
use sinter_model::Model;
use sinter_onnx::Loaded;
use sinter_task::MetricChoice;
use sinter_train::{Forecast, Setting};

pub(crate) use checks::parse_target;
pub(crate) use key::Key;
pub use opened::Opened;
pub use outline::{Outline, StageOutline};
pub(crate) use stages::{Planned, find};

use crate::config::{PATHS, PipelineConfig};
use crate::files::{ConfigError, Source};
use key::Dependencies;
use opened::Data;

/// What is to be other than the pipeline file says, for one run.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Another seed.
    pub seed: Option<u64>,
    /// Other values of keys: `stages.2.prune.structured.ratio=60%`. Lists count from one, stages go by number or name; `~` takes a key away.
    pub set: Vec<String>,
}

/// A pipeline that was read, opened and resolved.
#[derive(Debug)]
pub struct Plan {
    /// What the user wrote.
    pub config: PipelineConfig,
    /// What the user wrote of the data, its paths made whole.
    pub data_config: DataConfig,
    /// What the result is meant for.
    pub target: Target,
    /// The samples.
    pub data: Dataset,
    /// The model as it came.
    pub model: Model,
    /// What was changed of it on reading, in words.
    pub notes: Vec<String>,
    /// The pipeline file.
    pub path: PathBuf,
    /// What was asked for beside it.
    pub changes: Changes,
    /// Variables of the file that came from the environment, and their texts.
    pub environment: Vec<(String, String)>,
    /// The folder that paths of the pipeline are relative to.
    pub folder: PathBuf,
    pub(crate) stages: Vec<Planned>,
    /// Key of the model as it came, and after each stage.
    pub(crate) keys: Vec<Key>,
}

impl Plan {
    /// Reads, checks and resolves everything; nothing is written.
    pub fn read(path: &Path, changes: &Changes) -> Result<Self, ConfigError> {
        Self::read_with(path, changes, &Opened::default())
    }

    /// The same, with data that an earlier plan may have opened.
    pub fn read_with(path: &Path, changes: &Changes, opened: &Opened) -> Result<Self, ConfigError> {
        let source = Source::layered(path, &changes.set, &PATHS)?;
        let mut config: PipelineConfig = source.parse()?;
        config.seed = changes.seed.unwrap_or(config.seed);
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        source.names_folder(&config.name)?;
        config.metric.iter_mut().chain(&mut config.metrics).for_each(|metric| metric.run_in(&folder));
        let named = |key: &str, e: ConfigError, help: &str| source.error(key, e.message, Some(help.into()));
        let data_path = folder.join(&config.data);
        let data_source =
            Source::read(&data_path).map_err(|e| named("data", e, "`data` names a data file, relative to the pipeline file"))?;
        let mut data_config: DataConfig = data_source.parse()?;
        data_config.rebase(data_path.parent().unwrap_or(Path::new("")));
        if let Some(model) = &config.model.huggingface {
            let model = folder.join(model);
            if !model.is_dir() {
                let help =
                    "`huggingface` is a folder with config.json and safetensors, relative to the pipeline file".to_string();
                return Err(source.error("model.huggingface", format!("there is no folder {}", model.display()), Some(help)));
            }
            // Without one the data says what it needs.
            let tokenizer = model.join(sinter_hub::TOKENIZER);
            if tokenizer.is_file() {
                data_config.tokenize_by(tokenizer);
            }
        }
        let mut target = match &config.target {
            Some(target) => {
                let found = Source::read(&folder.join(target))
                    .map_err(|e| named("target", e, "`target` names a target file, relative to the pipeline file"))?;
                parse_target(&found)?
            }
            None => GENERIC.clone(),
        };
        if target.quantization.is_none() && config.export.iter().any(|e| e.is_for_devices()) {
            target.quantization = sinter_estimate::TFLITE.quantization.clone();
        }
        checks::budget(&config, &target, &source)?;
        let Data { samples: mut data, files, .. } = opened.open(&data_config, &data_source)?;
        if data.test.is_empty() {
            let help = Some("give a test split, or a share under `split: { test: 20% }`".into());
            return Err(data_source.error("source", format!("data set `{}` has no test samples to measure on", data.name), help));
        }
        checks::metric(&config, &data, &source)?;
        let Loaded { model, notes } = model::load(&config, &folder, (&data, data_config.tokens()), &source)?;
        model::check_input(&model, &mut data, &source)?;
        model::check_output(&model, &mut data, &source)?;
        let mut forecast = Forecast::new(&model);
        let stages = stages::resolve(&config, &mut forecast, &Setting { data: &data, target: &target }, &folder, &source)?;
        checks::exports(&config, &folder, &model, &forecast, &source)?;
        let keys = keys(&config, (&data_config, files), &model, &stages).map_err(|reason| ConfigError::plain(reason, None))?;
        Ok(Self {
            config,
            data_config,
            target,
            data,
            model,
            notes,
            path: path.to_path_buf(),
            changes: changes.clone(),
            environment: source.taken.clone(),
            folder,
            stages,
            keys,
        })
    }

    /// The name of stage `index` (counted from 1): `1-train`.
    pub fn stage_name(&self, index: usize) -> String {
        self.stages.get(index.wrapping_sub(1)).map_or_else(|| "0-input".to_string(), |s| s.name.clone())
    }

    /// The name of the result: the hash of all that it and its figures depend on.
    pub fn key(&self) -> String {
        Key::of(&(self.keys.last().map(|k| k.name.as_str()), &self.target)).name
    }

    /// What quality is measured by: as the pipeline says, else what fits the task.
    pub fn metric(&self) -> MetricChoice {
        let fitting = || MetricChoice::fitting(self.data.task, self.data.test.is_labelled());
        self.config.metric.clone().unwrap_or_else(fitting)
    }

    /// All metrics, the leading one first.
    pub(crate) fn metrics(&self) -> Vec<MetricChoice> {
        std::iter::once(self.metric()).chain(self.config.metrics.iter().cloned()).collect()
    }

    /// The number of stages at the front that train the float model.
    pub(crate) fn training_stages(&self) -> usize {
        self.stages.iter().take_while(|s| s.is_training).count()
    }

    /// A stage's request in a few words; of 0, where the model came from.
    pub(crate) fn what(&self, index: usize) -> String {
        let model = &self.config.model;
        match (self.stages.get(index.wrapping_sub(1)), &model.zoo) {
            (Some(stage), _) => stage.step.plan().what.clone(),
            (None, Some(zoo)) => format!("{}, untrained", zoo.name()),
            (None, None) => model.onnx.iter().chain(&model.huggingface).map(|p| p.display().to_string()).collect(),
        }
    }

    /// The run's folder within `out`. Its name is the hash of all that the run depends on: the same run has the same folder.
    pub fn run_folder(&self, out: &Path) -> PathBuf {
        let last = self.keys.last().map(|k| k.name.as_str());
        let key = Key::of(&(last, &self.target, &self.config.export));
        out.join(&self.config.name).join(&key.name[..12])
    }
}

/// The key of each model along the pipeline.
fn keys(
    config: &PipelineConfig,
    data: (&DataConfig, BTreeMap<String, String>),
    model: &Model,
    stages: &[Planned],
) -> Result<Vec<Key>, String> {
    let mut depends = Dependencies::of_input(config, data, model)?;
    let mut keys = vec![Key::of(&depends)];
    for stage in stages {
        depends.push(stage.step.plan(), &stage.teachers)?;
        keys.push(Key::of(&depends));
    }
    Ok(keys)
}
