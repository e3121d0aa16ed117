//! Bias correction: biases take back what rounding adds to the mean (Nagel et al., 2019).

use sinter_calibrate::Wanted;
use sinter_model::{Layer, Model};
use sinter_train::StageError;
use tch::{Kind, Tensor};

use super::round::in_parts;
use super::{Needs, Pass};
use crate::bias::stands_alone;
use crate::config::Mode;
use crate::resolved::Resolved;
use crate::state::State;

/// Takes from each layer's bias what rounding its weight adds to the mean of each output channel (Nagel et al., 2019, section 4.2). Learned
/// rounding has seen to that already. Costs a mean of each layer's input.
#[derive(Debug)]
pub(crate) struct CorrectBiases;

impl Pass for CorrectBiases {
    fn name(&self) -> &'static str {
        "correct-biases"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Means]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let config = &resolved.config;
        (config.correct_bias && config.mode == Mode::Ptq).then(|| "by the means of what layers read".to_string())
    }

    fn wants(&self, state: &State, wanted: &mut Wanted) {
        wanted.means.extend(corrected(state));
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        for layer in corrected(state) {
            if let Some(mean) = state.statistics.means.get(&layer.weight) {
                let before = state.float().weight(&layer.weight)?.effective().map_err(StageError::weight(&layer.weight))?;
                correct(&mut state.model, &layer, &before, mean)?;
            }
        }
        Ok(())
    }
}

/// The layers with a bias whose rounding has not seen to the mean already.
fn corrected(state: &State) -> Vec<Layer> {
    let seen_to = |layer: &Layer| {
        let rounding = state.rounding(layer);
        rounding.kind().decides_last() || (rounding.kind().wants_float() && in_parts(state, layer))
    };
    state.layers().into_iter().filter(|l| l.bias.is_some() && !seen_to(l)).collect()
}

/// Takes from a layer's bias what rounding its weight adds to the mean of each output channel (Nagel et al., 2019, section 4.2): the
/// change of the weight times the mean input. `before` is the weight as it was, `mean` the mean of each input channel. Without effect
/// where there is no bias of the layer's own.
fn correct(model: &mut Model, layer: &Layer, before: &Tensor, mean: &Tensor) -> Result<(), StageError> {
    let Some(bias) = layer.bias.clone().filter(|b| stands_alone(model, layer, b)) else { return Ok(()) };
    let after = model.weight(&layer.weight)?.effective().map_err(StageError::weight(&layer.weight))?.f_detach()?;
    let change = after.f_sub(before)?.f_to_kind(Kind::Double)?;
    let shift = model.graph.nodes[layer.node].op.mean_shift(&change, mean).map_err(StageError::weight(&layer.weight))?;
    let Some(shift) = shift else { return Ok(()) };
    let weight = model.weight_mut(&bias)?;
    let value = weight.effective().map_err(StageError::weight(&bias))?.f_detach()?;
    if value.numel() != shift.numel() {
        return Ok(());
    }
    let shifted = value.f_sub(&shift.f_reshape(value.size())?.f_to_kind(Kind::Float)?)?;
    weight.set_latent(shifted).map_err(StageError::weight(&bias))
}
