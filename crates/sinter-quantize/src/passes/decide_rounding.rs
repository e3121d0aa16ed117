//! Rounding that is decided when all of the model is quantized.

use sinter_train::StageError;

use super::{Needs, Pass};
use crate::resolved::Resolved;
use crate::rounding::Rounding;
use crate::state::State;

/// Lets the methods that decide last (`learned`) round their layers anew, on what the layers before them give once they are rounded.
#[derive(Debug)]
pub(crate) struct DecideRounding;

impl Pass for DecideRounding {
    fn name(&self) -> &'static str {
        "decide-rounding"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Samples, Needs::Gradients]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let last = |facts, format| resolved.rounding(facts, format).kind().decides_last();
        // Bits that are chosen while running may ask for it too.
        let count = resolved.layers.values().filter(|l| l.weight.is_some() && last(l.facts, l.weight)).count();
        match (count, &resolved.config.mixed) {
            (0, None) => None,
            (0, Some(_)) => Some("of layers that get fewer than 8 bits".into()),
            (count, _) => Some(format!("of {count} layers, up or down trained layer by layer")),
        }
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        if state.samples.is_empty() {
            return Ok(());
        }
        let layers = state.layers();
        let mut methods: Vec<Rounding> = Vec::new();
        for rounding in layers.iter().map(|l| state.rounding(l)).filter(|r| r.kind().decides_last()) {
            if !methods.contains(&rounding) {
                methods.push(rounding);
            }
        }
        for method in methods {
            let own = layers.iter().filter(|l| state.rounding(l) == method).cloned().collect::<Vec<_>>();
            let Some(float) = &state.float else { continue };
            method.kind().decide(&mut state.model, float, &own, &state.samples, state.context)?;
        }
        Ok(())
    }
}
