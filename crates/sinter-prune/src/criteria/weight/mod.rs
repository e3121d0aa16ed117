//! What makes a single weight dispensable, one file a criterion.
//!
//! To add one: a file with a documented struct of its options that implements [`Criterion`], and one line in the list below.

mod fisher;
mod gradient;
mod lamp;
mod magnitude;
mod movement;
mod obs;
mod random;
mod taylor;
mod wanda;

use std::collections::BTreeMap;
use std::fmt::Debug;

use fastrand::Rng;
use sinter_model::{Layer, Model};
use sinter_train::{Context, StageError};
use tch::{TchError, Tensor};

use super::Needs;
use crate::target::Target;

/// A criterion over single weights: the smallest scores go first.
pub trait Criterion: Debug + Send + Sync {
    /// What it looks at besides the weights.
    fn needs(&self) -> Needs {
        Needs::Weights
    }

    /// What it asks samples, by weight and of the weight's shape; layers of which nothing is known are scored by magnitude.
    fn gather(&self, _model: &Model, _context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        Ok(BTreeMap::new())
    }

    /// The scores of a weight, of its shape. `seen` is what was gathered of it, now or while training.
    fn score(&self, value: &Tensor, seen: Option<&Tensor>, rng: &mut Rng) -> Result<Tensor, TchError>;

    /// While masks grow with training: what a step's gradient adds to what is seen, and how much of the past a step keeps. `None` where
    /// training shows nothing.
    fn training_term(&self, _value: &Tensor, _gradient: &Tensor) -> Option<(Result<Tensor, TchError>, f64)> {
        None
    }

    /// Whether it sees anything without training.
    fn only_while_training(&self) -> bool {
        false
    }

    /// Whether weights compete within each output channel.
    fn by_row(&self) -> bool {
        false
    }

    /// Prunes layers to their targets by itself, since the weights that stay change too. `None` for criteria that only score.
    fn prune(&self, _model: &mut Model, _targets: &[(Layer, Target)], _context: &Context) -> Option<Result<(), StageError>> {
        None
    }

    /// Whether [`Criterion::prune`] does anything: then each layer goes in one shot, weight by weight.
    fn prunes_by_itself(&self) -> bool {
        false
    }
}

sinter_model::choices! {
    /// What makes a single weight dispensable.
    pub enum WeightCriterion: dyn Criterion {
        "magnitude" => Magnitude(magnitude::Magnitude),
        "lamp" => Lamp(lamp::Lamp),
        "taylor" => Taylor(taylor::Taylor),
        "fisher" => Fisher(fisher::Fisher),
        "gradient" => Gradient(gradient::Gradient),
        "movement" => Movement(movement::Movement),
        "wanda" => Wanda(wanda::Wanda),
        "obs" => Obs(obs::Obs),
        "random" => Random(random::Random),
    }
    default Magnitude
}

/// How much of the past running means of gradient terms keep.
const MEMORY: f64 = 0.98;

/// The score of every weight of these layers, each of its weight's shape. `seen` holds what was gathered while training, by weight;
/// without it samples are asked now.
pub(crate) fn scores(
    model: &Model,
    layers: &[Layer],
    criterion: &dyn Criterion,
    seen: Option<&BTreeMap<String, Tensor>>,
    context: &Context,
) -> Result<Vec<Tensor>, StageError> {
    let fresh = if seen.is_none() { criterion.gather(model, context)? } else { BTreeMap::new() };
    let seen = seen.unwrap_or(&fresh);
    let mut rng = Rng::with_seed(context.seed);
    let mut scores = Vec::new();
    for layer in layers {
        let weight = model.weight(&layer.weight)?;
        let value = weight.effective().map_err(StageError::weight(&layer.weight))?.f_detach()?;
        let score = criterion.score(&value, seen.get(&layer.weight), &mut rng)?;
        // What is pruned already stays so.
        scores.push(match weight.mask() {
            Some(mask) => score.f_masked_fill(&mask.keep().f_eq(0)?, f64::NEG_INFINITY)?,
            None => score,
        });
    }
    Ok(scores)
}
