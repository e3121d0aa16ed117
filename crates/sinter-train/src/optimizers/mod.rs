//! The update rules of training, one file each.
//!
//! libtorch's own optimizers keep to themselves what they remember, so a training that was interrupted could not go on with them. The rules here take the
//! same steps, bit for bit (a test holds each against libtorch's), and what they remember can be written down.
//!
//! To add one: a file with a documented struct of its options that implements [`UpdateRule`], and one line in the list below.

mod adam;
mod adamw;
mod sgd;
mod updates;

use std::fmt::Debug;

use serde::Deserializer;
use sinter_model::Ratio;
use tch::{TchError, Tensor};

pub(crate) use updates::Updates;

/// An update rule.
pub trait UpdateRule: Debug {
    /// Moves a parameter in place, one step against its gradient (float32, of its shape).
    fn step(&self, parameter: &mut Tensor, gradient: &Tensor, past: &mut Past, shared: &Shared) -> Result<(), TchError>;

    /// Whether a step is about as long as the learning rate, however large the gradient: then a small weight must be kept from long steps.
    fn has_step_of_its_own(&self) -> bool {
        true
    }
}

/// What a rule remembers of one parameter.
#[derive(Debug, Default)]
pub struct Past {
    /// The steps that were taken, this one included.
    pub steps: i32,
    /// Running means, of the parameter's shape; none before the first step.
    pub means: Vec<Tensor>,
}

/// What every rule takes.
#[derive(Debug, Clone, Copy)]
pub struct Shared {
    /// Learning rate of this step.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum, for rules that have one.
    pub momentum: f64,
}

/// `to + factor * values`, rounded once where the processor can: libtorch's `add` with its `alpha`, which its Rust bindings leave out.
fn add_scaled(to: &mut Tensor, values: &Tensor, factor: f64) -> Result<(), TchError> {
    let _same = to.f_addcmul_(values, &Tensor::from(factor as f32))?;
    Ok(())
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
