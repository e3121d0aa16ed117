//! Mixed precision: every layer's bits, under one budget.

use sinter_model::Layer;
use sinter_train::StageError;

use super::{Needs, Pass};
use crate::mixed::choose;
use crate::resolved::Resolved;
use crate::state::State;

/// Chooses the bits of each layer's weight under a budget of bytes, quality or energy (see [`crate::mixed`]).
#[derive(Debug)]
pub(crate) struct ChooseBits;

impl Pass for ChooseBits {
    fn name(&self) -> &'static str {
        "choose-bits"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Samples]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let mixed = resolved.config.mixed.as_ref()?;
        Some(format!("of {:?} for each layer, within {}", mixed.widths, mixed.budget_text()))
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let Some(mixed) = &state.resolved.config.mixed else { return Ok(()) };
        let named = |l: &Layer| state.resolved.layers.get(&l.weight).is_some_and(|l| l.named);
        let free: Vec<Layer> = state.layers().into_iter().filter(|l| !named(l)).collect();
        state.chosen = choose(mixed, state.resolved, &state.model, &free, state.context)?;
        Ok(())
    }
}
