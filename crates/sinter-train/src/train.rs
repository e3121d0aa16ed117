//! The stage `train`: plain training on the labels.

use serde::{Deserialize, Serialize};
use sinter_data::Dataset;
use sinter_model::Model;

use crate::fit::{FitConfig, fit};
use crate::stage::{Context, Stage, StageError, TeacherRef};

/// Trains the model on the labels, or on its own input where the task is reconstruction.
///
/// ```yaml
/// - train: { epochs: 8, optimizer: adam, lr: 1e-3 }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrainConfig(pub FitConfig);

impl Stage for TrainConfig {
    fn name(&self) -> &'static str {
        "train"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        if !model.is_trainable() {
            return Err(StageError::config("", "the model has no float32 parameter to train"));
        }
        self.0.check("", data)
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.0.teachers()
    }

    fn is_training(&self) -> bool {
        true
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        fit(&mut model, &self.0, context)?;
        Ok(model)
    }
}
