//! Which values between layers are quantized.

use sinter_train::StageError;

use super::Pass;
use crate::placement::{in_integers, place};
use crate::resolved::Resolved;
use crate::state::State;

/// Chooses the values that integer kernels of the target read and write, and parts those that a layer reads in fewer bits than others do.
#[derive(Debug)]
pub(crate) struct Place;

impl Pass for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let format = resolved.activations.calibrated()?;
        let whose = resolved.kernels.as_ref().map_or_else(|| "of any runtime".to_string(), |k| format!("of {}", k.target));
        Some(format!("{format} where integer kernels {whose} read and write"))
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let integer = in_integers(&state.model, state.resolved);
        let mut placement = place(&state.model, state.resolved, &integer);
        let copies = placement.part(state.resolved, &mut state.model)?;
        if copies > 0 {
            state.context.note(format!("{copies} values are read in fewer bits by layers than by shortcuts and other operators"));
        }
        state.placement = placement;
        Ok(())
    }
}
