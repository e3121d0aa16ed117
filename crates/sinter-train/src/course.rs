//! How far a training is: what a checkpoint holds of it besides the model in training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinter_model::Model;
use tch::{Device, Kind, Tensor};

use crate::callback::Callback;
use crate::checkpoint::Checkpoint;
use crate::leaves::Moved;
use crate::optimizers::Updates;

/// The model in training, or the trained one.
const MODEL: &str = "model";
/// The best model so far, where training stops early.
const BEST: &str = "best";
const LOSS: &str = "loss";
const LONGEST: &str = "longest";
const RULE: &str = "rule.";
const CALLBACK: &str = "callback.";

/// How far a training is.
#[derive(Debug)]
pub(crate) struct Course {
    pub facts: Facts,
    /// The sum of the epoch's losses so far, float32.
    pub loss: Tensor,
    /// The best model so far.
    pub best: Option<Model>,
}

/// The part of it that is numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// What is trained, and how: a course goes on with nothing else.
    pub training: String,
    /// The epoch under way, counted from zero.
    pub epoch: usize,
    /// Its batches that are done.
    pub batches: usize,
    /// What the epoch took so far.
    pub seconds: f64,
    /// The best score so far.
    pub best: Option<f64>,
    /// Epochs since then.
    pub waited: usize,
    /// Nothing is left to do.
    pub finished: bool,
}

impl Course {
    pub fn new(training: String) -> Self {
        Self { facts: Facts { training, ..Facts::default() }, loss: no_loss(), best: None }
    }

    /// The next epoch begins.
    pub fn next_epoch(&mut self) {
        self.facts = Facts { epoch: self.facts.epoch + 1, batches: 0, seconds: 0.0, ..self.facts.clone() };
        self.loss = no_loss();
    }

    /// Shows a checkpoint of a training on its way. Models are lent, not copied.
    pub fn lend(
        &mut self,
        at: String,
        model: &mut Model,
        (moved, updates, callback): (&[Moved], &Updates, &dyn Callback),
        show: impl FnOnce(&Checkpoint),
    ) {
        let longest: Vec<f64> = moved.iter().map(|m| m.longest).collect();
        let mut tensors =
            BTreeMap::from([(LOSS.to_string(), self.loss.shallow_clone()), (LONGEST.to_string(), Tensor::from_slice(&longest))]);
        tensors.extend(updates.remembered().into_iter().map(|(name, t)| (format!("{RULE}{name}"), t)));
        tensors.extend(callback.remembered().into_iter().map(|(name, t)| (format!("{CALLBACK}{name}"), t)));
        let mut models = BTreeMap::from([(MODEL.to_string(), std::mem::take(model))]);
        models.extend(self.best.take().map(|best| (BEST.to_string(), best)));
        let mut checkpoint = Checkpoint { at, models, tensors, facts: self.text() };
        show(&checkpoint);
        *model = checkpoint.models.remove(MODEL).unwrap_or_default();
        self.best = checkpoint.models.remove(BEST);
    }

    /// Shows a checkpoint of a training that is done: the model alone.
    pub fn finish(mut self, model: &mut Model, show: impl FnOnce(&Checkpoint)) {
        self.facts.finished = true;
        let (at, models) = ("the end of a training".to_string(), BTreeMap::from([(MODEL.to_string(), std::mem::take(model))]));
        let mut checkpoint = Checkpoint { at, models, facts: self.text(), ..Checkpoint::default() };
        show(&checkpoint);
        *model = checkpoint.models.remove(MODEL).unwrap_or_default();
    }

    fn text(&self) -> String {
        serde_json::to_string(&self.facts).unwrap_or_default()
    }
}

fn no_loss() -> Tensor {
    Tensor::zeros([], (Kind::Float, Device::Cpu))
}

/// A checkpoint of a training, read.
#[derive(Debug)]
pub(crate) struct Kept {
    pub course: Course,
    pub model: Model,
    /// The longest learning rate of each leaf.
    pub longest: Vec<f64>,
    /// Of the update rule.
    pub rule: BTreeMap<String, Tensor>,
    /// Of the callback.
    pub callback: BTreeMap<String, Tensor>,
}

impl Kept {
    /// Reads a checkpoint; `None` for one of another training.
    pub fn read(mut checkpoint: Checkpoint, training: &str) -> Option<Self> {
        let facts: Facts = serde_json::from_str(&checkpoint.facts).ok().filter(|f: &Facts| f.training == training)?;
        let model = checkpoint.models.remove(MODEL)?;
        let mut under = |prefix: &str| -> BTreeMap<String, Tensor> {
            let all = std::mem::take(&mut checkpoint.tensors);
            let (found, rest) = all.into_iter().partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(prefix));
            checkpoint.tensors = rest;
            found.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect()
        };
        let (rule, callback) = (under(RULE), under(CALLBACK));
        let longest = checkpoint.tensors.remove(LONGEST).and_then(|t| Vec::try_from(t).ok()).unwrap_or_default();
        let loss = checkpoint.tensors.remove(LOSS).unwrap_or_else(no_loss);
        let course = Course { facts, loss, best: checkpoint.models.remove(BEST) };
        Some(Self { course, model, longest, rule, callback })
    }
}
