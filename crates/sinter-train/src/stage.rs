//! A stage: one step from a model to a model.

use std::fmt::Debug;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_data::{DataError, Dataset};
use sinter_estimate::Target;
use sinter_exec::ExecError;
use sinter_model::{Model, ModelError, OpError};

use crate::event::{Event, Events, Probe};

/// Why a stage did not work.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("weight `{weight}`: {source}")]
    Weight { weight: String, source: OpError },
    #[error(transparent)]
    Op(#[from] OpError),
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// The configuration asks for something that this model or data can't give. `key` is the path of the key within the stage.
    #[error("{reason}")]
    Config { key: String, reason: String, help: Option<String> },
    #[error("training diverged in epoch {epoch}: the loss is {loss}; lower `lr` (now {lr})")]
    Diverged { epoch: usize, loss: f64, lr: f64 },
}

impl StageError {
    /// The configuration can't be followed.
    pub fn config(key: &str, reason: impl Into<String>) -> Self {
        Self::Config { key: key.to_string(), reason: reason.into(), help: None }
    }

    /// Names the weight at fault.
    pub fn weight(name: &str) -> impl Fn(OpError) -> StageError + '_ {
        move |source| StageError::Weight { weight: name.to_string(), source }
    }
}

/// Which model teaches: the float model before compression, what a named stage left, or an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TeacherRef {
    #[default]
    Float,
    Stage(String),
    Onnx(PathBuf),
}

impl FromStr for TeacherRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "float" => Ok(Self::Float),
            Some(("stage", name)) if !name.is_empty() => Ok(Self::Stage(name.to_string())),
            Some(("onnx", path)) if !path.is_empty() => Ok(Self::Onnx(PathBuf::from(path))),
            _ => Err(format!("`{text}` is not a teacher: write `float`, `stage:NAME` or `onnx:PATH`")),
        }
    }
}

impl std::fmt::Display for TeacherRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float => write!(f, "float"),
            Self::Stage(name) => write!(f, "stage:{name}"),
            Self::Onnx(path) => write!(f, "onnx:{}", path.display()),
        }
    }
}

impl Serialize for TeacherRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TeacherRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a teacher such as stage:train")
    }
}

/// What stages remember from run to run, for work that does not depend on all of their configuration. It belongs to the model that
/// came into the stage.
pub trait Memory {
    /// What was kept under this name.
    fn recall(&self, what: &str) -> Option<String>;
    /// Keeps a text. A memory that is full or read-only forgets.
    fn keep(&self, what: &str, text: &str);
}

/// A memory that holds nothing.
#[derive(Debug)]
pub struct Forgetful;

impl Memory for Forgetful {
    fn recall(&self, _what: &str) -> Option<String> {
        None
    }
    fn keep(&self, _what: &str, _text: &str) {}
}

/// All that a stage may use.
pub struct Context<'a> {
    pub data: &'a Dataset,
    /// What the model is meant for.
    pub target: &'a Target,
    /// This stage's own seed: the same run gives it the same one.
    pub seed: u64,
    pub events: Events<'a>,
    /// Finds a teacher that the configuration names.
    pub teacher: &'a dyn Fn(&TeacherRef) -> Result<Model, StageError>,
    pub memory: &'a dyn Memory,
}

impl Context<'_> {
    /// Tells the user something that stops nothing.
    pub fn note(&self, text: impl Into<String>) {
        (self.events)(Event::Note { text: text.into() });
    }

    /// Tells what calibration saw of a value.
    pub fn range(&self, value: &str, (low, high): (f32, f32)) {
        (self.events)(Event::Range { value: value.to_string(), low: low.into(), high: high.into() });
    }

    /// Tells what quality is lost when a layer alone is compressed.
    pub fn sensitivity(&self, layer: &str, probe: Probe, at: f64, lost: f64) {
        (self.events)(Event::Sensitivity { layer: layer.to_string(), probe, at, lost });
    }

    /// Tells how far a piece of work is.
    pub fn progress(&self, what: &str, done: usize, total: usize) {
        (self.events)(Event::Progress { what: what.to_string(), done, total });
    }
}

/// A pure step: a model in, a model out. What it needs comes in the context; it prints nothing and keeps nothing.
pub trait Stage: Debug {
    /// The name in YAML.
    fn name(&self) -> &'static str;

    /// Whether the stage can apply, told from the model's graph and the data's shape before anything runs.
    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError>;

    /// The teachers that the stage will ask for.
    fn teachers(&self) -> Vec<TeacherRef> {
        Vec::new()
    }

    /// Whether the result depends on the target.
    fn heeds_target(&self) -> bool {
        false
    }

    /// Whether the stage trains a float model rather than compress it.
    fn is_training(&self) -> bool {
        false
    }

    /// Does the work.
    fn run(&self, model: Model, context: &Context) -> Result<Model, StageError>;
}
