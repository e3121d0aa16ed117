//! Masks that grow while the model trains (Zhu and Gupta, 2017).

use std::collections::BTreeMap;

use sinter_model::{Model, Role};
use sinter_train::{Context, Guide, StageError};
use tch::Tensor;

use crate::config::{CubicConfig, WeightCriterion};
use crate::scores::{input_norms, weight_scores};
use crate::select::{Shares, set_masks};

/// How much of the past the running means of gradient terms keep.
const MEMORY: f64 = 0.98;

/// Prunes a little more every few steps: the share rises as `1 - (1 - t)^3`.
pub(crate) struct Gradual<'a> {
    shares: Shares,
    criterion: WeightCriterion,
    schedule: &'a CubicConfig,
    context: &'a Context<'a>,
    /// Sums or running means over steps of what the criterion wants, by weight.
    seen: BTreeMap<String, Tensor>,
    step: usize,
    complete: bool,
}

impl<'a> Gradual<'a> {
    pub fn new(shares: Shares, criterion: WeightCriterion, schedule: &'a CubicConfig, context: &'a Context<'a>) -> Self {
        Self { shares, criterion, schedule, context, seen: BTreeMap::new(), step: 0, complete: false }
    }

    fn gathers(&self) -> bool {
        matches!(self.criterion, WeightCriterion::Taylor | WeightCriterion::Fisher | WeightCriterion::Movement)
    }

    fn prune(&mut self, model: &mut Model, progress: f64) -> Result<(), StageError> {
        if self.criterion == WeightCriterion::Wanda && self.seen.is_empty() {
            // Inputs change little while masks grow: one look at them is enough.
            self.seen = input_norms(model, self.context)?;
        }
        let seen = (!self.seen.is_empty()).then_some(&self.seen);
        let scores = tch::no_grad(|| weight_scores(model, &self.shares.layers, self.criterion, seen, self.context))?;
        set_masks(model, self.shares.masks(&scores, progress)?)
    }
}

impl Guide for Gradual<'_> {
    fn before_step(&mut self, model: &mut Model, done: f64) -> Result<(), StageError> {
        self.step += 1;
        let t = done / self.schedule.until.get().max(1e-9);
        // The first terms must have been seen, and the last pruning must be the whole one.
        if self.complete || self.step == 1 || (t < 1.0 && !self.step.is_multiple_of(self.schedule.every)) {
            return Ok(());
        }
        self.complete = t >= 1.0;
        self.prune(model, 1.0 - (1.0 - t.min(1.0)).powi(3))
    }

    fn after_backward(&mut self, model: &Model) -> Result<(), StageError> {
        if self.complete || !self.gathers() {
            return Ok(());
        }
        for layer in &self.shares.layers {
            let weight = model.weight(&layer.weight)?;
            let (value, grad) = (weight.latent().f_detach()?, weight.latent().grad());
            if weight.role != Role::Parameter || !grad.defined() {
                continue;
            }
            let term = match self.criterion {
                WeightCriterion::Fisher => grad.f_square()?,
                WeightCriterion::Taylor => value.f_mul(&grad)?.f_abs()?,
                // A step along -gradient moves the weight away from zero where their signs agree.
                _ => value.f_mul(&grad)?.f_neg()?,
            };
            let keep = if self.criterion == WeightCriterion::Movement { 1.0 } else { MEMORY };
            let sum = match self.seen.remove(&layer.weight) {
                Some(sum) => sum.f_mul_scalar(keep)?.f_add(&term)?,
                None => term,
            };
            self.seen.insert(layer.weight.clone(), sum);
        }
        Ok(())
    }

    fn settled(&self, done: f64) -> bool {
        done > self.schedule.until.get()
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), StageError> {
        // Very short trainings end before the share is reached.
        if self.complete { Ok(()) } else { self.prune(model, 1.0) }
    }
}
