//! The stage `prune`: weights, runs of weights, or whole channels are removed.
//!
//! Unstructured and N:M pruning set a mask, which the file and the training keep. Structured pruning removes channels from the graph:
//! shapes really shrink, and what must shrink together is found from the operators' axes mappings (see [`channels`]).

pub mod channels;
mod config;
mod mask;
mod structured;

pub use config::{Criterion, LayerRatio, NmText, PruneConfig, Scope, StructuredConfig, UnstructuredConfig};
pub use mask::{magnitude_mask, nm_mask};
pub use structured::remove_channels;

use sinter_data::Dataset;
use sinter_model::Model;
use sinter_train::{Context, Stage, StageError, TeacherRef, fit};

impl Stage for PruneConfig {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        self.check_config(model)?;
        if let Some(finetune) = &self.finetune {
            finetune.check("finetune", data)?;
        }
        let needs_data = self.structured.as_ref().is_some_and(|s| s.criterion == Criterion::Taylor);
        if needs_data && (data.train.is_empty() || !data.train.is_labelled()) {
            return Err(StageError::config("structured.criterion", "criterion taylor needs labelled training samples"));
        }
        Ok(())
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.finetune.iter().flat_map(|f| f.teachers()).collect()
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        if let Some(config) = &self.structured {
            structured::prune(&mut model, config, context)?;
        }
        if let Some(config) = &self.unstructured {
            mask::prune_unstructured(&mut model, config)?;
        }
        if let Some(pattern) = &self.pattern {
            mask::prune_pattern(&mut model, *pattern, &self.layers, context)?;
        }
        if let Some(finetune) = &self.finetune {
            fit(&mut model, finetune, context)?;
        }
        Ok(model)
    }
}
