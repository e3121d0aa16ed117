//! The stage `prune`: weights, rectangles of weights, channels or whole blocks are removed.
//!
//! Unstructured, rectangular and N:M pruning set a mask, which the file and the training keep. Structured pruning removes channels (and
//! blocks) from the graph: shapes really shrink, and what must shrink together is found from the operators' axes mappings (see
//! [`channels`]).

pub mod channels;
mod config;
mod gradual;
mod mask;
mod obs;
mod refit;
mod residual;
mod scores;
mod select;
mod sensitivity;
mod structured;

use std::collections::BTreeMap;

pub use config::{
    Criterion, CubicConfig, IterativeConfig, LayerRatio, NmText, PruneConfig, Rewind, Schedule, Scope, StructuredConfig,
    UnstructuredConfig, WeightCriterion,
};
pub use mask::{magnitude_mask, nm_mask};
pub use structured::remove_channels;

use sinter_data::Dataset;
use sinter_model::{Layer, Mask, Model, NmPattern};
use sinter_train::{Context, Stage, StageError, TeacherRef, fit, fit_guided};
use tch::Tensor;

use gradual::Gradual;
use select::{Shares, set_masks};

impl Stage for PruneConfig {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        self.check_config(model, data)
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.finetune.iter().flat_map(|f| f.teachers()).collect()
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        match (&self.schedule, &self.finetune, &self.unstructured) {
            (Schedule::Cubic(schedule), Some(finetune), Some(config)) => {
                let shares = Shares::new(&model, config, &self.scanned(&model, config, context)?)?;
                let mut guide = Gradual::new(shares, config.criterion, schedule, context);
                fit_guided(&mut model, finetune, context, &mut guide)?;
            }
            (Schedule::Iterative(rounds), Some(finetune), _) => {
                let start: BTreeMap<String, Tensor> =
                    model.weights.iter().map(|(n, w)| (n.clone(), w.latent().detach().copy())).collect();
                for round in 1..=rounds.rounds {
                    context.note(format!("round {round} of {}", rounds.rounds));
                    self.prune_once(&mut model, round, rounds.rounds, context)?;
                    if rounds.rewind == Rewind::Weights {
                        rewind(&mut model, &start)?;
                    }
                    fit(&mut model, finetune, context)?;
                }
            }
            (_, finetune, _) => {
                self.prune_once(&mut model, 1, 1, context)?;
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

impl PruneConfig {
    /// Prunes to the share that is due after `round` of `rounds`: what is kept shrinks by the same factor in each.
    fn prune_once(&self, model: &mut Model, round: usize, rounds: usize, context: &Context) -> Result<(), StageError> {
        if let Some(config) = &self.structured {
            structured::prune(model, config, rounds, context)?;
        }
        if let Some(count) = self.blocks {
            let due = |r: usize| count * r / rounds;
            residual::prune(model, due(round) - due(round - 1), context)?;
        }
        if let Some(config) = &self.unstructured {
            let kept = 1.0 - config.sparsity.get();
            let due = 1.0 - kept.powf(round as f64 / rounds as f64);
            self.prune_weights(model, config, due / config.sparsity.get().max(1e-12), context)?;
        }
        if let Some(pattern) = self.pattern {
            self.prune_pattern(model, pattern, round, rounds, context)?;
        }
        Ok(())
    }

    /// The shares that a sensitivity scan gives, by layer; none where none was asked for.
    fn scanned(
        &self,
        model: &Model,
        config: &UnstructuredConfig,
        context: &Context,
    ) -> Result<BTreeMap<String, f64>, StageError> {
        if config.scope != Scope::Sensitivity {
            return Ok(BTreeMap::new());
        }
        // The second-order criterion would take long: magnitude finds the same layers.
        let criterion = match config.criterion {
            WeightCriterion::Obs | WeightCriterion::Movement => WeightCriterion::Magnitude,
            other => other,
        };
        let plain = UnstructuredConfig { criterion, scope: Scope::Layer, layers: vec![], ..config.clone() };
        let layers = model.layers();
        let scores = scores::weight_scores(model, &layers, criterion, None, context)?;
        let names = layers.iter().map(|l| Ok((l.name.clone(), model.weight(&l.weight)?.numel())));
        let names = names.collect::<Result<Vec<_>, StageError>>()?;
        let what = format!("sensitivity of weights, {criterion:?}, blocks of {:?}", config.block);
        let curves = sensitivity::scan(model, &what, &names, context, &|i, share| {
            let sparsity = sinter_model::Ratio::new(share).unwrap_or_default();
            let shares = Shares::new(model, &UnstructuredConfig { sparsity, ..plain.clone() }, &BTreeMap::new())?;
            let mut masks = shares.masks(&scores, 1.0)?;
            masks.retain(|(name, _)| *name == layers[i].weight);
            let mut probe = model.copy();
            set_masks(&mut probe, masks)?;
            Ok(probe)
        })?;
        Ok(sensitivity::allocate(&curves, config.sparsity.get()))
    }

    fn prune_weights(
        &self,
        model: &mut Model,
        config: &UnstructuredConfig,
        progress: f64,
        context: &Context,
    ) -> Result<(), StageError> {
        let shares = Shares::new(model, config, &self.scanned(model, config, context)?)?;
        if config.criterion == WeightCriterion::Obs {
            let targets: Vec<(Layer, obs::Target)> = shares
                .each()
                .map(|(l, s)| (l.clone(), obs::Target::Sparsity(s * progress)))
                .filter(|(_, t)| t.is_some())
                .collect();
            return obs::prune(model, &targets, context);
        }
        let scores = scores::weight_scores(model, &shares.layers, config.criterion, None, context)?;
        set_masks(model, shares.masks(&scores, progress)?)
    }

    /// N:M, layer by layer. In rounds, each run loses its weights one after the other.
    fn prune_pattern(
        &self,
        model: &mut Model,
        pattern: NmText,
        round: usize,
        rounds: usize,
        context: &Context,
    ) -> Result<(), StageError> {
        let n = pattern.m - ((pattern.m - pattern.n) * round).div_ceil(rounds);
        let mut chosen = Vec::new();
        for layer in model.layers() {
            let named = self.layers.iter().any(|p| p.matches(model, &layer));
            if !self.layers.is_empty() && !named {
                continue;
            }
            let len = model.weight(&layer.weight)?.size()[layer.slot.in_axis];
            if len % pattern.m as i64 != 0 {
                let reason = format!("{}: {len} input channels are no multiple of {}", layer.name, pattern.m);
                if named {
                    return Err(StageError::config("layers", reason));
                }
                context.note(format!("{reason}, left as it is"));
                continue;
            }
            let axis = layer.slot.in_axis;
            chosen.push((layer, NmPattern { n, m: pattern.m, axis }));
        }
        if chosen.is_empty() {
            return Err(StageError::config("pattern", format!("no layer's input channels are a multiple of {}", pattern.m)));
        }
        let criterion = self.criterion.unwrap_or_default();
        if criterion == WeightCriterion::Obs {
            let targets: Vec<_> = chosen.into_iter().map(|(l, p)| (l, obs::Target::Pattern(p))).collect();
            return obs::prune(model, &targets, context);
        }
        let layers: Vec<Layer> = chosen.iter().map(|(l, _)| l.clone()).collect();
        let scores = scores::weight_scores(model, &layers, criterion, None, context)?;
        let masks = chosen.iter().zip(&scores).map(|((layer, p), score)| {
            let at = StageError::weight(&layer.weight);
            let keep = mask::keep_nm(score, *p).map_err(&at)?;
            Ok((layer.weight.clone(), Mask::new(&keep, Some(*p)).map_err(&at)?))
        });
        set_masks(model, masks.collect::<Result<Vec<_>, StageError>>()?)
    }
}
