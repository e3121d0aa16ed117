//! The update rules of training, one file each.
//!
//! To add one: a file with a documented struct of its options that implements [`UpdateRule`], and one line in the list below.

mod adam;
mod adamw;
mod sgd;

use std::fmt::Debug;

use serde::Deserializer;
use sinter_model::Ratio;
use tch::nn;

/// An update rule.
pub trait UpdateRule: Debug {
    /// The rule at work on the parameters of a store.
    fn build(&self, store: &nn::VarStore, shared: &Shared) -> Result<nn::Optimizer, tch::TchError>;

    /// Whether a step is about as long as the learning rate, however large the gradient: then a small weight must be kept from long steps.
    fn has_step_of_its_own(&self) -> bool {
        true
    }
}

/// What every rule takes.
#[derive(Debug, Clone, Copy)]
pub struct Shared {
    /// Learning rate at the start.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum, for rules that have one.
    pub momentum: f64,
}

/// For `#[serde(deserialize_with)]` of running means: a share below one, of which some is left for what is new.
fn decay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ratio::deserialize_below(deserializer, 1.0).map(Ratio::get)
}

sinter_model::choices! {
    /// The update rule.
    pub enum Optimizer: dyn UpdateRule {
        "adam" => Adam(adam::Adam),
        "adamw" => Adamw(adamw::Adamw),
        "sgd" => Sgd(sgd::Sgd),
    }
    default Adam
}
