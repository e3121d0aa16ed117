//! The stage `distill`: the model learns from the soft targets of a float teacher (Hinton et al., 2015).
//!
//! Every encoding that earlier stages set holds while it learns: zeros stay zero, shared values stay shared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Augment;
use sinter_train::{
    DistillFrom, FitConfig, FitStep, Forecast, Optimizer, Schedule, Setting, Stage, StageError, Step, StepPlan, TeacherRef,
};

/// Trains on a teacher's outputs and on the labels, where there are any.
///
/// ```yaml
/// - distill: { teacher: stage:train, temperature: 4, alpha: 0.9, epochs: 3 }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// `float` (the model before compression), `stage:NAME` or `onnx:PATH`. Default: float.
    #[serde(default)]
    pub teacher: TeacherRef,
    /// Softens both distributions. Default: 4.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Weight of the teacher; the labels get the rest. Default: 0.9.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Passes over the training samples. Default: 3.
    #[serde(default = "epochs")]
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
    /// How training samples are varied. Default: as the data set says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
}

fn temperature() -> f64 {
    4.0
}

fn alpha() -> f64 {
    0.9
}

fn epochs() -> usize {
    3
}

fn lr() -> f64 {
    1e-3
}

fn batch() -> usize {
    128
}

impl DistillConfig {
    fn fit(&self) -> FitConfig {
        FitConfig {
            optimizer: self.optimizer.clone(),
            lr: self.lr,
            schedule: self.schedule.clone(),
            batch_size: self.batch_size,
            augment: self.augment.clone(),
            distill: Some(DistillFrom { teacher: self.teacher.clone(), temperature: self.temperature, alpha: self.alpha }),
            ..FitConfig::epochs(self.epochs)
        }
    }
}

impl Stage for DistillConfig {
    fn name(&self) -> &'static str {
        "distill"
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        vec![self.teacher.clone()]
    }

    fn resolve(&self, forecast: &mut Forecast, setting: &Setting) -> Result<Box<dyn Step>, StageError> {
        let fit = self.fit();
        fit.distill.iter().try_for_each(|d| d.check(""))?;
        let plan = StepPlan::new("distill", format!("distill from {} ({})", self.teacher, fit.epochs_text()), self);
        Ok(Box::new(FitStep::resolve(plan, fit, forecast, setting)?))
    }
}
