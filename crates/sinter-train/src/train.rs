//! The stage `train`: plain training on the labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Model;

use crate::config::FitConfig;
use crate::context::Context;
use crate::error::StageError;
use crate::fit::fit;
use crate::forecast::Forecast;
use crate::plan::StepPlan;
use crate::stage::{Setting, Stage, Step};
use crate::teacher_ref::TeacherRef;

/// Trains the model on the labels, or on its own input where the task is reconstruction.
///
/// ```yaml
/// - train: { epochs: 8, optimizer: adam, lr: 1e-3 }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TrainConfig(pub FitConfig);

impl Stage for TrainConfig {
    fn name(&self) -> &'static str {
        "train"
    }

    fn resolve(&self, forecast: &mut Forecast, setting: &Setting) -> Result<Box<dyn Step>, StageError> {
        let plan = StepPlan::new("train", format!("train ({})", self.0.epochs_text()), self);
        // Statistics of a model that learns from nothing are its own to find.
        let config = FitConfig { freeze_batch_norm: self.0.freeze_batch_norm.or(Some(false)), ..self.0.clone() };
        Ok(Box::new(FitStep::resolve(plan, config, forecast, setting)?))
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.0.teachers()
    }

    fn is_training(&self) -> bool {
        true
    }
}

/// Training, resolved: a step that does nothing else.
#[derive(Debug)]
pub struct FitStep {
    config: FitConfig,
    plan: StepPlan,
}

impl FitStep {
    /// Training as configured, to be told in a plan; errors where the model has nothing to train or the data can't teach it.
    pub fn resolve(plan: StepPlan, config: FitConfig, forecast: &Forecast, setting: &Setting) -> Result<Self, StageError> {
        if !forecast.model.is_trainable() {
            return Err(StageError::config("", "the model has no float32 parameter to train"));
        }
        config.check("", setting.data)?;
        Ok(Self { plan: plan.pass("fit", config.describe(setting.data)), config })
    }
}

impl Step for FitStep {
    fn plan(&self) -> &StepPlan {
        &self.plan
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        fit(&mut model, &self.config, context)?;
        Ok(model)
    }
}
