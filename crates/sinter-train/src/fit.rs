//! The training loop.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use sinter_data::{Augment, Order, Task};
use sinter_exec::{Leaf, Runner};
use sinter_model::{Mode, Model};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use crate::event::Event;
use crate::guide::{Guide, Unguided};
use crate::loss::{Objective, Teacher, Teaching, expose_logits};
use crate::metrics::evaluate;
use crate::stage::{Context, StageError, TeacherRef};

/// How to train.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Passes over the training samples.
    pub epochs: usize,
    /// Default: adam.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning rate at the start. Default: 0.001.
    #[serde(default = "lr")]
    pub lr: f64,
    /// How the learning rate falls. Default: cosine.
    #[serde(default)]
    pub schedule: Schedule,
    /// Samples a step. Default: 128.
    #[serde(default = "batch")]
    pub batch_size: usize,
    /// Default: 0.
    #[serde(default)]
    pub weight_decay: f64,
    /// Of SGD. Default: 0.9.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Probability mass spread over all classes. Default: 0.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Stop when the validation split has not improved for so many epochs, and keep the best. Needs a validation split. Default: never.
    #[serde(default)]
    pub patience: Option<usize>,
    /// How training samples are varied. Default: as the data set says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Learn from a teacher too. Default: from the labels alone.
    #[serde(default)]
    pub distill: Option<DistillFrom>,
}

/// A teacher and how much it counts (Hinton et al., 2015).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillFrom {
    /// `float` (the model before compression), `stage:NAME` or `onnx:PATH`. Default: float.
    #[serde(default)]
    pub teacher: TeacherRef,
    /// Softens both distributions. Default: 4.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Weight of the teacher; the labels get the rest. Default: 0.9.
    #[serde(default = "alpha")]
    pub alpha: f64,
}

impl Default for DistillFrom {
    fn default() -> Self {
        Self { teacher: TeacherRef::Float, temperature: temperature(), alpha: alpha() }
    }
}

fn temperature() -> f64 {
    4.0
}

fn alpha() -> f64 {
    0.9
}

impl DistillFrom {
    /// Errors on numbers that can't teach.
    pub fn check(&self, key: &str) -> Result<(), StageError> {
        let at = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            let reason = format!("temperature must be positive, not {}", self.temperature);
            return Err(StageError::config(&at("temperature"), reason));
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(StageError::config(&at("alpha"), format!("alpha must lie between 0 and 1, not {}", self.alpha)));
        }
        Ok(())
    }
}

impl FitConfig {
    /// So many epochs, all else at its default.
    pub fn epochs(epochs: usize) -> Self {
        Self {
            epochs,
            optimizer: Optimizer::default(),
            lr: lr(),
            schedule: Schedule::default(),
            batch_size: batch(),
            weight_decay: 0.0,
            momentum: momentum(),
            label_smoothing: 0.0,
            patience: None,
            augment: None,
            distill: None,
        }
    }

    /// The teachers that training asks for.
    pub fn teachers(&self) -> Vec<TeacherRef> {
        self.distill.iter().map(|d| d.teacher.clone()).collect()
    }

    /// The loss that the configuration describes.
    fn objective(&self, context: &Context) -> Objective {
        let teaching = self.distill.as_ref().map(|d| Teaching { temperature: d.temperature, alpha: d.alpha });
        Objective { task: context.data.task, teaching, label_smoothing: self.label_smoothing }
    }
}

fn lr() -> f64 {
    1e-3
}

fn batch() -> usize {
    128
}

fn momentum() -> f64 {
    0.9
}

/// The update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Kingma and Ba, 2015.
    #[default]
    Adam,
    /// Loshchilov and Hutter, 2019.
    Adamw,
    /// With Nesterov momentum.
    Sgd,
}

/// The learning rate over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    Constant,
    /// Down to zero along half a cosine, after a warm-up over the first 2 % of the steps (Loshchilov and Hutter, 2017).
    #[default]
    Cosine,
    /// A tenth after half the steps, a hundredth after three quarters.
    Step,
}

impl Schedule {
    fn factor(self, done: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine if done < 0.02 => (done / 0.02).max(0.05),
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (done - 0.02) / 0.98).cos()),
            Self::Step if done < 0.5 => 1.0,
            Self::Step if done < 0.75 => 0.1,
            Self::Step => 0.01,
        }
    }
}

impl FitConfig {
    /// Errors on numbers that can't train.
    pub fn check(&self, key: &str, context: &sinter_data::Dataset) -> Result<(), StageError> {
        let at = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
        let positive = self.lr.is_finite() && self.lr > 0.0;
        if !positive {
            return Err(StageError::config(&at("lr"), format!("lr must be positive, not {}", self.lr)));
        }
        if self.batch_size == 0 {
            return Err(StageError::config(&at("batch_size"), "batch_size must be at least 1"));
        }
        for (name, value) in [("label_smoothing", self.label_smoothing), ("momentum", self.momentum)] {
            if !(0.0..1.0).contains(&value) {
                return Err(StageError::config(&at(name), format!("{name} must be at least 0 and below 1, not {value}")));
            }
        }
        if let Some(Err(reason)) = self.augment.as_ref().map(Augment::check) {
            return Err(StageError::config(&at("augment.noise"), reason));
        }
        if let Some(distill) = &self.distill {
            distill.check(&at("distill"))?;
        }
        if self.epochs > 0 && self.distill.is_none() && context.task == Task::Classify && !context.train.is_labelled() {
            return Err(StageError::Config {
                key: key.to_string(),
                reason: format!("training needs labels, and data set `{}` has none", context.name),
                help: Some("learn from the float model instead: `distill: { alpha: 1 }`".into()),
            });
        }
        if self.epochs > 0 && context.train.is_empty() {
            return Err(StageError::config(key, "training needs samples, and the training split is empty"));
        }
        if self.patience.is_some() && context.validation.is_empty() {
            return Err(StageError::Config {
                key: at("patience"),
                reason: "early stopping needs a validation split, and the data set has none".into(),
                help: Some("set `split: { validation: 10% }` in the data file".into()),
            });
        }
        Ok(())
    }
}

/// Trains the model in place. Every encoding holds throughout: gradients reach the latent tensors and centroids through the chain.
///
/// Errors when libtorch does, and when the loss stops being a number.
pub fn fit(model: &mut Model, config: &FitConfig, context: &Context) -> Result<(), StageError> {
    fit_guided(model, config, context, &mut Unguided)
}

/// [`fit`], with a guide that changes the model's chains on the way. Early stopping then compares only epochs that end after the last
/// change, since quality falls while masks grow: see [`Guide::settled`].
pub fn fit_guided(model: &mut Model, config: &FitConfig, context: &Context, guide: &mut dyn Guide) -> Result<(), StageError> {
    if config.epochs == 0 {
        return guide.finish(model);
    }
    let objective = config.objective(context);
    let hidden = expose_logits(model, objective.task);
    let train = &match &config.augment {
        Some(augment) => context.data.train.augmented(augment),
        None => context.data.train.clone(),
    };
    let asked = config.distill.as_ref().map(|d| Teacher::new((context.teacher)(&d.teacher)?, train, objective.task));
    let teacher = asked.transpose()?;
    let store = nn::VarStore::new(Device::Cpu);
    let longest_steps = attach(model, &store)?;
    let adaptive = config.optimizer != Optimizer::Sgd;
    let mut optimizer = match config.optimizer {
        Optimizer::Adam => nn::Adam { wd: config.weight_decay, ..nn::Adam::default() }.build(&store, config.lr)?,
        Optimizer::Adamw => nn::AdamW { wd: config.weight_decay, ..nn::AdamW::default() }.build(&store, config.lr)?,
        Optimizer::Sgd => {
            let sgd =
                nn::Sgd { momentum: config.momentum, wd: config.weight_decay, nesterov: config.momentum > 0.0, dampening: 0.0 };
            sgd.build(&store, config.lr)?
        }
    };
    let steps = train.len().div_ceil(config.batch_size);
    let mut best: Option<(f64, Model)> = None;
    let mut waited = 0;
    for epoch in 0..config.epochs {
        let started = Instant::now();
        let mut total = Tensor::zeros([], (Kind::Float, Device::Cpu));
        let order = Order::Shuffled(context.seed.wrapping_mul(0x9e37_79b9).wrapping_add(epoch as u64));
        for (step, batch) in train.batches(config.batch_size, order).enumerate() {
            let batch = batch?;
            // One sample alone has no variance for a batch normalisation to learn from.
            if batch.x.size()[0] == 1 && config.batch_size > 1 && steps > 1 {
                continue;
            }
            let done = (epoch * steps + step) as f64 / (config.epochs * steps) as f64;
            for (group, longest) in longest_steps.iter().enumerate() {
                let lr = if adaptive { config.lr.min(*longest) } else { config.lr };
                optimizer.set_lr_group(group, lr * config.schedule.factor(done));
            }
            guide.before_step(model, done)?;
            // The effective weights follow the latent ones, so they are computed anew at every step.
            let output = Runner::new(model)?.run(&[batch.x.shallow_clone()], Mode::Train)?.swap_remove(0);
            let taught = teacher.as_ref().map(|t| t.answer(&batch)).transpose()?;
            let mut loss = objective.loss(&output, &batch, taught.as_ref())?;
            if let Some(penalty) = guide.penalty(model, done)? {
                loss = loss.f_add(&penalty)?;
            }
            optimizer.zero_grad();
            loss.f_backward()?;
            guide.after_backward(model)?;
            optimizer.step();
            total = total.f_add(&loss.f_detach()?)?;
            if step % 20 == 0 {
                context.progress(&format!("epoch {}/{}", epoch + 1, config.epochs), step, steps);
            }
        }
        let loss = total.f_double_value(&[])? / steps.max(1) as f64;
        if !loss.is_finite() {
            return Err(StageError::Diverged { epoch: epoch + 1, loss, lr: config.lr });
        }
        let quality = match context.data.validation.is_empty() {
            true => None,
            false => Some(evaluate(model, &context.data.validation, objective.task, None)?),
        };
        (context.events)(Event::Epoch {
            epoch: epoch + 1,
            epochs: config.epochs,
            loss,
            metric: quality.as_ref().map_or("", |q| q.metric.name()).to_string(),
            value: quality.as_ref().map(|q| q.value),
            seconds: started.elapsed().as_secs_f64(),
        });
        let settled = guide.settled((epoch + 1) as f64 / config.epochs as f64);
        if let (Some(patience), Some(quality), true) = (config.patience, quality, settled) {
            let score = if quality.metric.higher_is_better() { quality.value } else { -quality.value };
            if best.as_ref().is_none_or(|(b, _)| score > *b) {
                best = Some((score, model.copy()));
                waited = 0;
            } else {
                waited += 1;
                if waited >= patience {
                    context.note(format!("stopped after epoch {}: no improvement for {patience}", epoch + 1));
                    break;
                }
            }
        }
    }
    *model = match best {
        Some((_, best)) => best,
        None => model.copy(),
    };
    guide.finish(model)?;
    if let (Some(name), Some(output)) = (hidden, model.graph.outputs.first_mut()) {
        output.name = name;
    }
    Ok(())
}

/// The most that one step of Adam may move a weight, as a share of the root mean square of its tensor.
const LONGEST_STEP: f64 = 0.03;

/// Puts the model's leaves into the store, one parameter group each, so that the optimizer changes them in place.
///
/// Returns the learning rate that each group bears. A step of Adam is about as long as the learning rate, however small the weights are: a
/// layer fed by pixels of 0 to 255 has weights a hundred times smaller than the next one's and would be overwritten by its first steps.
fn attach(model: &mut Model, store: &nn::VarStore) -> Result<Vec<f64>, StageError> {
    let mut longest = Vec::new();
    for (i, (leaf, tensor)) in sinter_exec::leaves(model).into_iter().enumerate() {
        let size = match tensor.dim() {
            0 | 1 => 0.0,
            _ => tensor.f_square()?.f_mean(Kind::Double)?.f_sqrt()?.f_double_value(&[])?,
        };
        // Tensors that start at zero have no size to measure a step by.
        longest.push(if size > 0.0 { LONGEST_STEP * size } else { f64::INFINITY });
        let root = store.root().set_group(i);
        let variable = root.f_var_copy(&format!("p{i}"), &tensor.f_detach()?)?;
        match leaf {
            Leaf::Latent(name) => model.weight_mut(&name)?.set_latent(variable).map_err(StageError::weight(&name))?,
            Leaf::Centroids(names) => {
                for name in names {
                    if let Some(codebook) = model.weight_mut(&name)?.codebook_mut() {
                        codebook.set_centroids(variable.shallow_clone()).map_err(StageError::weight(&name))?;
                    }
                }
            }
            Leaf::WeightScale(name) => {
                let grid = model.weight_mut(&name)?.grid_mut();
                grid.map_or(Ok(()), |g| g.set_leaf(variable)).map_err(StageError::weight(&name))?;
            }
            Leaf::ActivationScale(name) => {
                let grid = model.activations.get_mut(&name);
                grid.map_or(Ok(()), |g| g.set_leaf(variable)).map_err(StageError::weight(&name))?;
            }
        }
    }
    Ok(longest)
}
