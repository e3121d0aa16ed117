//! The stage at work: one shot, along a curve, or in rounds.

use std::collections::BTreeMap;

use sinter_model::Model;
use sinter_train::{Context, NoMemory, StageError, Step, StepPlan, fit, fit_with};
use tch::Tensor;

use crate::config::{PruneConfig, Rewind, Schedule};
use crate::gradual::Gradual;
use crate::select::Shares;
use crate::{pattern, residual, structured, unstructured};

/// Pruning, resolved.
#[derive(Debug)]
pub(crate) struct Prune {
    pub config: PruneConfig,
    pub plan: StepPlan,
}

impl Step for Prune {
    fn plan(&self) -> &StepPlan {
        &self.plan
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        let config = &self.config;
        match (&config.schedule, &config.finetune, &config.unstructured) {
            (Schedule::Cubic(schedule), Some(finetune), Some(weights)) => {
                let shares = Shares::new(&model, weights, &unstructured::scanned(&model, weights, context)?)?;
                let mut callback = Gradual::new(shares, weights.criterion.kind(), schedule, context);
                fit_with(&mut model, finetune, context, &mut callback)?;
            }
            (Schedule::Iterative(rounds), Some(finetune), _) => {
                let latents = |model: &Model| -> BTreeMap<String, Tensor> {
                    model.weights.iter().map(|(n, w)| (n.clone(), w.latent().detach().copy())).collect()
                };
                let start = (rounds.rewind == Rewind::Weights).then(|| latents(&model));
                for round in 1..=rounds.rounds {
                    context.note(format!("round {round} of {}", rounds.rounds));
                    // What is remembered is of the model that came in.
                    let memory = if round == 1 { context.memory } else { &NoMemory };
                    prune_once(config, &mut model, round, rounds.rounds, &Context { memory, ..*context })?;
                    if let Some(start) = &start {
                        rewind(&mut model, start)?;
                    }
                    fit(&mut model, finetune, context)?;
                }
            }
            (_, finetune, _) => {
                prune_once(config, &mut model, 1, 1, context)?;
                if let Some(finetune) = finetune {
                    fit(&mut model, finetune, context)?;
                }
            }
        }
        Ok(model)
    }
}

/// Weights of their first shape go back to their first values; masks hold.
fn rewind(model: &mut Model, start: &BTreeMap<String, Tensor>) -> Result<(), StageError> {
    for (name, weight) in &mut model.weights {
        if let Some(value) = start.get(name).filter(|v| v.size() == weight.size()) {
            weight.set_latent(value.copy()).map_err(StageError::weight(name))?;
        }
    }
    Ok(())
}

/// Prunes to the share that is due after `round` of `rounds`: what is kept shrinks by the same factor in each.
fn prune_once(config: &PruneConfig, model: &mut Model, round: usize, rounds: usize, context: &Context) -> Result<(), StageError> {
    if let Some(channels) = &config.structured {
        structured::prune(model, channels, rounds, context)?;
    }
    if let Some(count) = config.blocks {
        let due = |r: usize| count * r / rounds;
        residual::prune(model, due(round) - due(round - 1), context)?;
    }
    if let Some(weights) = &config.unstructured {
        let kept = 1.0 - weights.sparsity.get();
        let due = 1.0 - kept.powf(round as f64 / rounds as f64);
        unstructured::prune(model, weights, due / weights.sparsity.get().max(1e-12), context)?;
    }
    if let Some(wanted) = config.pattern {
        pattern::prune(model, config, wanted, round, rounds, context)?;
    }
    Ok(())
}
