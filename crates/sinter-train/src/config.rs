//! How to train.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::{Augment, Dataset, Task};
use sinter_model::Model;
use sinter_task::tasks::of;
use sinter_task::{HardTargets, Objective, SoftTargets, gives_probabilities};

use crate::error::StageError;
use crate::optimizers::Optimizer;
use crate::schedules::Schedule;
use crate::teacher_ref::TeacherRef;

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Passes over the training samples.
    pub epochs: usize,
    /// The update rule. Default: adam.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning rate at the start. Default: 0.001.
    #[serde(default = "lr")]
    pub lr: f64,
    /// How the learning rate falls. Default: cosine.
    #[serde(default)]
    pub schedule: Schedule,
    /// Samples a step. Default: 128.
    #[serde(default = "batch")]
    pub batch_size: usize,
    /// Keeps the statistics of batch normalisations as they are. Default: only at steps of fewer than 16 samples, which tell too little of them; in
    /// the stage `train` never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_batch_norm: Option<bool>,
    /// How much of a weight each step takes off it, as a share of the learning rate. Default: 0.
    #[serde(default)]
    pub weight_decay: f64,
    /// Of SGD. Default: 0.9.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Probability mass spread over all classes. Default: 0.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Stop when the validation split has not improved for so many epochs, and keep the best. Needs a validation split. Default: never.
    #[serde(default)]
    pub patience: Option<usize>,
    /// How training samples are varied. Default: as the data set says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Learn from a teacher too. Default: from the labels alone.
    #[serde(default)]
    pub distill: Option<DistillFrom>,
}

/// More than anybody trains for; steps are counted in products of this.
const MOST_EPOCHS: usize = 1_000_000;

/// Samples of a step from which their mean and variance tell those of all.
pub const ENOUGH: i64 = 16;

/// A teacher and how much it counts (Hinton et al., 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistillFrom {
    /// `float` (the model before compression), `stage:NAME` or `onnx:PATH`. Default: float.
    #[serde(default)]
    pub teacher: TeacherRef,
    /// Softens both distributions. Default: 4.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Weight of the teacher; the labels get the rest. Default: 0.9.
    #[serde(default = "alpha")]
    pub alpha: f64,
}

impl Default for DistillFrom {
    fn default() -> Self {
        Self { teacher: TeacherRef::Float, temperature: temperature(), alpha: alpha() }
    }
}

fn temperature() -> f64 {
    4.0
}

fn alpha() -> f64 {
    0.9
}

impl DistillFrom {
    /// Errors on numbers that can't teach.
    pub fn check(&self, key: &str) -> Result<(), StageError> {
        let at = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            let reason = format!("temperature must be positive, not {}", self.temperature);
            return Err(StageError::config(&at("temperature"), reason));
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(StageError::config(&at("alpha"), format!("alpha must lie between 0 and 1, not {}", self.alpha)));
        }
        Ok(())
    }
}

impl FitConfig {
    /// So many epochs, all else at its default.
    pub fn epochs(epochs: usize) -> Self {
        Self {
            epochs,
            optimizer: Optimizer::default(),
            lr: lr(),
            schedule: Schedule::default(),
            batch_size: batch(),
            freeze_batch_norm: None,
            weight_decay: 0.0,
            momentum: momentum(),
            label_smoothing: 0.0,
            patience: None,
            augment: None,
            distill: None,
        }
    }

    /// Whether normalisations keep their statistics at a step of so many samples.
    pub fn freezes(&self, samples: i64) -> bool {
        self.freeze_batch_norm.unwrap_or(samples < ENOUGH)
    }

    /// The teachers that training asks for.
    pub fn teachers(&self) -> Vec<TeacherRef> {
        self.distill.iter().map(|d| d.teacher.clone()).collect()
    }

    /// The length of training in words: `6 epochs`.
    pub fn epochs_text(&self) -> String {
        format!("{} epoch{}", self.epochs, if self.epochs == 1 { "" } else { "s" })
    }

    /// What training will be, in words.
    pub fn describe(&self, data: &Dataset) -> String {
        let steps = data.train.len().div_ceil(self.batch_size.max(1)) * self.epochs;
        let optimizer = self.optimizer.name();
        let teacher = self.distill.as_ref().map_or_else(String::new, |d| format!(", from {} at alpha {}", d.teacher, d.alpha));
        let patience = self.patience.map_or_else(String::new, |p| format!(", stops after {p} epochs without improvement"));
        format!(
            "{} of {} samples in {steps} steps, {optimizer} at {}, {} schedule{teacher}{patience}",
            self.epochs_text(),
            data.train.len(),
            self.lr,
            self.schedule.name()
        )
    }

    /// The loss that the configuration describes.
    pub(crate) fn objective(&self, task: Task, model: &Model) -> Objective {
        let soft = self.distill.as_ref().map(|d| SoftTargets { temperature: d.temperature, alpha: d.alpha });
        let hard = HardTargets { label_smoothing: self.label_smoothing, probabilities: gives_probabilities(model) };
        Objective { task, soft, hard }
    }

    /// Errors on numbers that can't train.
    pub fn check(&self, key: &str, data: &Dataset) -> Result<(), StageError> {
        let at = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
        let positive = self.lr.is_finite() && self.lr > 0.0;
        if !positive {
            return Err(StageError::config(&at("lr"), format!("lr must be positive, not {}", self.lr)));
        }
        if self.batch_size == 0 {
            return Err(StageError::config(&at("batch_size"), "batch_size must be at least 1"));
        }
        if self.epochs > MOST_EPOCHS {
            return Err(StageError::config(&at("epochs"), format!("epochs must be at most {MOST_EPOCHS}, not {}", self.epochs)));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            let reason = format!("weight_decay must be finite and at least 0, not {}", self.weight_decay);
            return Err(StageError::config(&at("weight_decay"), reason));
        }
        for (name, value) in [("label_smoothing", self.label_smoothing), ("momentum", self.momentum)] {
            if !(0.0..1.0).contains(&value) {
                return Err(StageError::config(&at(name), format!("{name} must be at least 0 and below 1, not {value}")));
            }
        }
        if let Some(Err(reason)) = self.augment.as_ref().map(Augment::check) {
            return Err(StageError::config(&at("augment.noise"), reason));
        }
        if let Some(distill) = &self.distill {
            distill.check(&at("distill"))?;
        }
        let unteachable = of(data.task).unteachable(data.train.is_labelled());
        if let Some(wanted) = unteachable.filter(|_| self.epochs > 0 && self.distill.is_none()) {
            let reason = format!("training on data set `{}` needs {wanted}", data.name);
            return Err(StageError::config_help(key, reason, "learn from the float model instead: `distill: { alpha: 1 }`"));
        }
        if self.epochs > 0 && data.train.is_empty() {
            return Err(StageError::config(key, "training needs samples, and the training split is empty"));
        }
        if self.patience.is_some() && data.validation.is_empty() {
            let reason = "early stopping needs a validation split, and the data set has none";
            return Err(StageError::config_help(&at("patience"), reason, "set `split: { validation: 10% }` in the data file"));
        }
        Ok(())
    }
}

fn lr() -> f64 {
    1e-3
}

fn batch() -> usize {
    128
}

fn momentum() -> f64 {
    0.9
}
