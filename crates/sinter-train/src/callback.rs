//! What a stage does while its model trains.

use sinter_model::Model;

use crate::error::StageError;

/// Changes a model's chains as training goes on: masks that grow, assignments that follow the weights. The leaves (latent tensors and
/// centroids) belong to the optimizer and must stay the same tensors.
pub trait Callback {
    /// Before each step; `done` is the share of all steps that are done, from 0 to 1.
    fn before_step(&mut self, _model: &mut Model, _done: f64) -> Result<(), StageError> {
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

    /// After the last step.
    fn finish(&mut self, _model: &mut Model) -> Result<(), StageError> {
        Ok(())
    }
}

/// Plain training.
#[derive(Debug)]
pub struct NoCallback;

impl Callback for NoCallback {}
