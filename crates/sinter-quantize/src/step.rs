//! The stage at work: the passes of the plan, one after the other.

use sinter_model::Model;
use sinter_train::{Context, StageError, Step, StepPlan};

use crate::passes;
use crate::resolved::Resolved;
use crate::state::State;

/// Quantization, resolved.
#[derive(Debug)]
pub(crate) struct Quantize {
    pub resolved: Resolved,
    pub plan: StepPlan,
}

impl Step for Quantize {
    fn plan(&self) -> &StepPlan {
        &self.plan
    }

    fn run(&self, model: Model, context: &Context) -> Result<Model, StageError> {
        let mut state = State::new(&self.resolved, model, context);
        for (pass, _) in passes::of(&self.resolved) {
            tracing::debug!("pass {}", pass.name());
            pass.run(&mut state)?;
        }
        Ok(state.model)
    }
}
