//! A stage: one step from a model to a model. First it is resolved, then it runs.

use std::fmt::Debug;

use sinter_data::Dataset;
use sinter_estimate::Target;
use sinter_model::Model;

use crate::context::Context;
use crate::error::StageError;
use crate::forecast::Forecast;
use crate::plan::StepPlan;
use crate::teacher_ref::TeacherRef;

/// What a stage is resolved against, besides the model.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The samples.
    pub data: &'a Dataset,
    /// What the model is meant for.
    pub target: &'a Target,
}

/// What the user wrote for one stage. It never changes; what it comes to is a [`Step`].
pub trait Stage: Debug {
    /// The name in YAML.
    fn name(&self) -> &'static str;

    /// Resolves the configuration against a model, data and a target: which layers, which formats, which passes. Errors on all that can be
    /// told to be impossible, with the path of the key. Notes in the forecast what later stages will find.
    fn resolve(&self, forecast: &mut Forecast, setting: &Setting) -> Result<Box<dyn Step>, StageError>;

    /// The teachers that the stage will ask for.
    fn teachers(&self) -> Vec<TeacherRef> {
        Vec::new()
    }

    /// Whether the stage trains a float model rather than compress it.
    fn is_training(&self) -> bool {
        false
    }
}

/// A stage that is resolved: a pure step from a model to a model. What it needs comes in the context; it prints nothing and keeps nothing.
pub trait Step: Debug {
    /// What will be done. The step does exactly that, and its result depends on nothing of the configuration that is not in here.
    fn plan(&self) -> &StepPlan;

    /// Does the work.
    fn run(&self, model: Model, context: &Context) -> Result<Model, StageError>;
}

/// Resolves a stage against a model and runs it: one stage by itself, outside of a pipeline.
pub fn apply(stage: &dyn Stage, model: Model, context: &Context) -> Result<Model, StageError> {
    let step = stage.resolve(&mut Forecast::new(&model), &Setting { data: context.data, target: context.target })?;
    step.run(model, context)
}
