//! Masks that grow while the model trains (Zhu and Gupta, 2017).

use std::collections::BTreeMap;

use sinter_model::{Model, Role};
use sinter_train::{Callback, Context, Moment, StageError};
use tch::Tensor;

use crate::config::CubicConfig;
use crate::criteria::weight::{Criterion, scores};
use crate::select::{Shares, set_masks};

/// Names of what is remembered while training is interrupted.
const SEEN: &str = "seen.";
const COMPLETE: &str = "complete";

/// Prunes a little more every few steps: the share rises as `1 - (1 - t)^3`.
pub(crate) struct Gradual<'a> {
    shares: Shares,
    criterion: &'a dyn Criterion,
    schedule: &'a CubicConfig,
    context: &'a Context<'a>,
    /// Sums or running means over steps of what the criterion wants, by weight.
    seen: BTreeMap<String, Tensor>,
    complete: bool,
}

impl<'a> Gradual<'a> {
    pub fn new(shares: Shares, criterion: &'a dyn Criterion, schedule: &'a CubicConfig, context: &'a Context<'a>) -> Self {
        Self { shares, criterion, schedule, context, seen: BTreeMap::new(), complete: false }
    }

    fn prune(&mut self, model: &mut Model, progress: f64) -> Result<(), StageError> {
        if self.seen.is_empty() {
            // What training does not show changes little while masks grow: one look is enough.
            self.seen = self.criterion.gather(model, self.context)?;
        }
        let seen = Some(&self.seen);
        let scores = tch::no_grad(|| scores(model, &self.shares.layers, self.criterion, seen, self.context))?;
        set_masks(model, self.shares.masks(&scores, progress)?)
    }
}

impl Callback for Gradual<'_> {
    fn before_step(&mut self, model: &mut Model, Moment { step, done }: Moment) -> Result<(), StageError> {
        let t = done / self.schedule.until.get().max(1e-9);
        // The first terms must have been seen, and the last pruning must be the whole one.
        if self.complete || step == 0 || (t < 1.0 && !(step + 1).is_multiple_of(self.schedule.every)) {
            return Ok(());
        }
        self.complete = t >= 1.0;
        self.prune(model, 1.0 - (1.0 - t.min(1.0)).powi(3))
    }

    fn after_backward(&mut self, model: &Model) -> Result<(), StageError> {
        if self.complete {
            return Ok(());
        }
        for layer in &self.shares.layers {
            let weight = model.weight(&layer.weight)?;
            let (value, gradient) = (weight.latent().f_detach()?, weight.latent().grad());
            if weight.role != Role::Parameter || !gradient.defined() {
                continue;
            }
            let Some((term, keep)) = self.criterion.training_term(&value, &gradient) else { return Ok(()) };
            let sum = match self.seen.remove(&layer.weight) {
                Some(sum) => sum.f_mul_scalar(keep)?.f_add(&term?)?,
                None => term?,
            };
            self.seen.insert(layer.weight.clone(), sum);
        }
        Ok(())
    }

    fn settled(&self, done: f64) -> bool {
        done > self.schedule.until.get()
    }

    fn remembered(&self) -> BTreeMap<String, Tensor> {
        let mut all: BTreeMap<String, Tensor> =
            self.seen.iter().map(|(weight, seen)| (format!("{SEEN}{weight}"), seen.shallow_clone())).collect();
        all.insert(COMPLETE.to_string(), Tensor::from(i64::from(self.complete)));
        all
    }

    fn recall(&mut self, remembered: BTreeMap<String, Tensor>) {
        self.complete = remembered.get(COMPLETE).is_some_and(|t| matches!(i64::try_from(t), Ok(1)));
        self.seen =
            remembered.into_iter().filter_map(|(name, seen)| Some((name.strip_prefix(SEEN)?.to_string(), seen))).collect();
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), StageError> {
        // Very short trainings end before the share is reached.
        if self.complete { Ok(()) } else { self.prune(model, 1.0) }
    }
}
