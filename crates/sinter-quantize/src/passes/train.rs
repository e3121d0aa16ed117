//! Training with quantization simulated.

use sinter_train::{Callback, NoCallback, StageError, fit_with};

use super::{Needs, Pass};
use crate::config::{Mode, Scales};
use crate::resolved::Resolved;
use crate::state::State;
use crate::training::following::Ranges;
use crate::training::normalize::{self, Positive};

/// Trains with quantization simulated (QAT; Jacob et al., 2018); scales are learned unless the user wants otherwise (LSQ; Esser et al., 2020).
/// Costs what training costs, half as much again.
#[derive(Debug)]
pub(crate) struct Train;

impl Pass for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Gradients]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let scales = match resolved.config.scales {
            Scales::Learned => "scales are learned",
            Scales::Fixed => "scales stay",
            Scales::MovingAverage => "ranges of values follow their moving averages",
        };
        let fit = resolved.config.fit_config();
        let text = format!("with quantization simulated, {} at {}; {scales}", fit.epochs_text(), fit.lr);
        (resolved.config.mode == Mode::Qat).then_some(text)
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let (config, context) = (&state.resolved.config, state.context);
        let (model, activations) = (&mut state.model, state.activations.as_ref());
        let mut fit = config.fit_config();
        let widest = match config.batch_norm {
            Some(true) => 7,
            None if !fit.freezes(fit.batch_size as i64) => 3,
            _ => 0,
        };
        let normalised = normalize::insert(model, widest, &state.samples)?;
        if !normalised.is_empty() {
            // They are there to follow the samples.
            fit.freeze_batch_norm = fit.freeze_batch_norm.or(Some(false));
        }
        if normalised.is_empty() && config.batch_norm == Some(true) {
            context.note("`batch_norm` finds no convolution or dense layer with fewer than 8 bits and a scale a channel");
        }
        if config.scales == Scales::Learned {
            if let Some(activations) = activations {
                activations.unshare(model);
            }
            for (name, weight) in &mut model.weights {
                weight.quantizer_mut().map_or(Ok(()), |q| q.learn()).map_err(StageError::weight(name))?;
            }
            for (name, quantizer) in &mut model.activations {
                quantizer.learn().map_err(StageError::weight(name))?;
            }
        }
        let following = activations.filter(|_| config.scales == Scales::MovingAverage);
        let mut following = following.map(|quantizers| Ranges::new(quantizers, &context.data.train, context.seed));
        let other: &mut dyn Callback = match &mut following {
            Some(ranges) => ranges,
            None => &mut NoCallback,
        };
        fit_with(model, &fit, context, &mut Positive { scales: &normalised, other })?;
        for (name, weight) in &mut model.weights {
            weight.quantizer_mut().map_or(Ok(()), |q| q.settle()).map_err(StageError::weight(name))?;
        }
        for (name, quantizer) in &mut model.activations {
            quantizer.settle().map_err(StageError::weight(name))?;
        }
        if !normalised.is_empty() {
            normalize::fold(model, &normalised, &context.data.train.sample(normalize::SAMPLES, context.seed))?;
        }
        if let Some(activations) = activations {
            activations.share(model);
        }
        Ok(())
    }
}
