//! Calibration: what the samples tell of the float model, and the ranges of values.

use sinter_calibrate::Wanted;
use sinter_train::StageError;

use super::{Needs, Pass, of};
use crate::activations::ActivationQuantizers;
use crate::resolved::Resolved;
use crate::state::State;

/// Runs the samples through the float model once, for all passes that ask for statistics of it, and gives values their ranges.
#[derive(Debug)]
pub(crate) struct Calibrate;

impl Pass for Calibrate {
    fn name(&self) -> &'static str {
        "calibrate"
    }

    fn needs(&self, resolved: &Resolved) -> &'static [Needs] {
        if resolved.activations.calibrated().is_some() { &[Needs::Ranges] } else { &[] }
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let samples = resolved.config.samples;
        Some(match resolved.activations.calibrated() {
            Some(_) => format!(
                "ranges by {} over {samples} samples, in one pass with all other statistics",
                resolved.config.calibrate.name()
            ),
            None => format!("statistics over {samples} samples, in one pass"),
        })
    }

    fn wants(&self, state: &State, wanted: &mut Wanted) {
        let watch = state.resolved.config.calibrate.kind().watch();
        wanted.values.extend(state.placement.own.iter().map(|name| (name.clone(), watch)));
        wanted.relevant.clone_from(&state.placement.relevant);
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        state.float = Some(state.model.copy());
        let mut wanted = Wanted::default();
        of(state.resolved).iter().for_each(|(pass, _)| pass.wants(state, &mut wanted));
        state.statistics = state.gather(&wanted)?;
        if state.resolved.activations.calibrated().is_none() {
            return Ok(());
        }
        if let Some(first) = state.statistics.infinite.first() {
            let others = state.statistics.infinite.len() - 1;
            let others = if others == 0 { String::new() } else { format!("; so do {others} values behind it") };
            state.context.note(format!("the float model overflows: {first} holds infinity, which ranges leave out{others}"));
        }
        let calibration = &state.resolved.config.calibrate;
        for (name, observer) in &state.statistics.values {
            if let (Some(focused), Some(seen)) = (calibration.focus(observer, 8), observer.seen()) {
                let ((low, high), (first, last)) = (focused.bulk, seen);
                state.context.note(format!(
                    "value `{name}` reaches from {first:.4} to {last:.4}, though 99.9 % of what is not zero lies between {low:.4} and \
                     {high:.4}: what is far beyond is clipped (`calibrate: min-max` would keep it)"
                ));
            }
        }
        let ranges = std::mem::take(&mut state.statistics.values);
        for (name, seen) in ranges.iter().filter_map(|(name, observer)| Some((name, observer.seen()?))) {
            state.context.range(name, seen);
        }
        state.activations = Some(ActivationQuantizers {
            placement: std::mem::take(&mut state.placement),
            ranges,
            calibration: state.resolved.config.calibrate.clone(),
            levels: state.resolved.levels(),
        });
        Ok(())
    }
}
