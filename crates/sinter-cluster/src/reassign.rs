//! Assignments that follow the weights while they train.

use std::collections::BTreeMap;

use sinter_model::{Assignment, Model};
use sinter_train::{Callback, Moment, StageError};
use tch::Tensor;

/// From this share of training on assignments stay, and centroids settle.
const FROZEN: f64 = 0.8;
/// Up to this share of training the price of a bit rises to its full height.
const RAMP: f64 = 0.5;

/// Lets weights choose their centroids anew as they move. With a price on bits this is entropy-constrained training: the cheap symbols
/// draw weights toward them, as in ECVQ (Chou et al., 1989) and EC2T (Marban et al., 2020).
pub(crate) struct Reassign {
    /// Steps between assignments.
    pub every: usize,
    pub layers: BTreeMap<String, Price>,
}

/// What a layer's errors and bits cost.
pub(crate) struct Price {
    pub importance: Option<Tensor>,
    /// In squared error times importance.
    pub bit: f64,
}

impl Callback for Reassign {
    fn before_step(&mut self, model: &mut Model, Moment { step, done }: Moment) -> Result<(), StageError> {
        if !(step + 1).is_multiple_of(self.every) || done >= FROZEN {
            return Ok(());
        }
        for (name, price) in &self.layers {
            let how = Assignment { importance: price.importance.as_ref(), bit: price.bit * (done / RAMP).min(1.0) };
            model.weight_mut(name)?.reassign(&how).map_err(StageError::weight(name))?;
        }
        Ok(())
    }

    fn settled(&self, done: f64) -> bool {
        done >= FROZEN
    }
}
