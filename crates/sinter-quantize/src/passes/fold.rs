//! Batch normalisations become part of the layers before them.

use sinter_model::fold_batch_norm;
use sinter_train::StageError;

use super::Pass;
use crate::resolved::Resolved;
use crate::state::State;

/// Folds batch normalisations into the layers before them (Jacob et al., 2018, section 3.2): kernels then compute one sum where there were two.
#[derive(Debug)]
pub(crate) struct Fold;

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn applies(&self, _resolved: &Resolved) -> Option<String> {
        Some("batch normalisations into the layers before them".into())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        if state.model.layers().iter().any(|l| state.model.weights[&l.weight].quantizer().is_some()) {
            return Err(StageError::config("", "the model is already quantized: remove the second `quantize` stage"));
        }
        let folded = fold_batch_norm(&mut state.model)?;
        if folded > 0 {
            state.context.note(format!("{folded} batch normalisations folded"));
        }
        Ok(())
    }
}
