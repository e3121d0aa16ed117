//! How the learning rate goes over time, one file a schedule.
//!
//! To add one: a file with a documented struct of its options that implements [`Curve`], and one line in the list below.

mod constant;
mod cosine;
mod step;

use std::fmt::Debug;

/// The learning rate over time.
pub trait Curve: Debug {
    /// What the learning rate at the start is multiplied by when the share `done` (0 to 1) of training is over.
    fn factor(&self, done: f64) -> f64;
}

sinter_model::choices! {
    /// How the learning rate falls.
    pub enum Schedule: dyn Curve {
        "cosine" => Cosine(cosine::Cosine),
        "constant" => Constant(constant::Constant),
        "step" => Step(step::Step),
    }
    default Cosine
}
