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
        if !forecast.model.is_trainable() {
            return Err(StageError::config("", "the model has no float32 parameter to train"));
        }
        self.0.check("", setting.data)?;
        let what = format!("train ({})", self.0.epochs_text());
        let plan = StepPlan::new("train", what, self).pass("fit", self.0.describe(setting.data));
        Ok(Box::new(Train { config: self.0.clone(), plan }))
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.0.teachers()
    }

    fn is_training(&self) -> bool {
        true
    }
}

/// Training, resolved.
#[derive(Debug)]
struct Train {
    config: FitConfig,
    plan: StepPlan,
}

impl Step for Train {
    fn plan(&self) -> &StepPlan {
        &self.plan
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        fit(&mut model, &self.config, context)?;
        Ok(model)
    }
}
