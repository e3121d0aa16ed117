//! What a stage does while its model trains.

use std::collections::BTreeMap;

use sinter_model::Model;
use tch::Tensor;

use crate::error::StageError;

/// Where training is.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Steps that are done.
    pub step: usize,
    /// The share of all steps that are done, from 0 to 1.
    pub done: f64,
}

/// Changes a model's chains as training goes on: masks that grow, assignments that follow the weights. The leaves (latent tensors and
/// centroids) belong to the optimizer and must stay the same tensors.
pub trait Callback {
    /// Before each step.
    fn before_step(&mut self, _model: &mut Model, _moment: Moment) -> Result<(), StageError> {
        Ok(())
    }

    /// When the gradients of a step are there and the leaves have not moved yet.
    fn after_backward(&mut self, _model: &Model) -> Result<(), StageError> {
        Ok(())
    }

    /// Whether the chains no longer change once the share `done` of training is over. Early stopping compares epochs from there on.
    fn settled(&self, _done: f64) -> bool {
        true
    }

    /// What the callback itself remembers from step to step, by names of its own: what is not in the model.
    fn remembered(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Goes on from what was remembered when the training was interrupted.
    fn recall(&mut self, _remembered: BTreeMap<String, Tensor>) {}

    /// After the last step.
    fn finish(&mut self, _model: &mut Model) -> Result<(), StageError> {
        Ok(())
    }
}

/// Plain training.
#[derive(Debug)]
pub struct NoCallback;

impl Callback for NoCallback {}
