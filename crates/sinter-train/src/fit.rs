//! The training loop.

use std::time::Instant;

use sinter_data::{Batch, Order, Split};
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use sinter_task::{Objective, expose_logits};

use crate::callback::{Callback, Moment, NoCallback};
use crate::checkpoint::Checkpoint;
use crate::config::FitConfig;
use crate::context::Context;
use crate::course::{Course, Kept};
use crate::error::StageError;
use crate::event::Event;
use crate::leaves::{Moved, attach};
use crate::optimizers::{Shared, Updates};
use crate::teacher::Teacher;

/// Trains the model in place. Every encoding holds throughout: gradients reach the latent tensors and centroids through the chain.
///
/// Errors when libtorch does, when the loss stops being a number, and when the user asks to stop.
pub fn fit(model: &mut Model, config: &FitConfig, context: &Context) -> Result<(), StageError> {
    fit_with(model, config, context, &mut NoCallback)
}

/// [`fit`], with a callback that changes the model's chains on the way. Early stopping then compares only epochs that end after the last
/// change, since quality falls while masks grow: see [`Callback::settled`].
///
/// The training is kept in [`Context::checkpoints`] from time to time, and goes on from what an earlier run kept there. Whatever it depends on is
/// either there or follows from seed, epoch and step, so that the result is the same.
pub fn fit_with(model: &mut Model, config: &FitConfig, context: &Context, callback: &mut dyn Callback) -> Result<(), StageError> {
    if config.epochs == 0 {
        return callback.finish(model);
    }
    // Before anything is taken up: told once, however often the training is.
    if config.freeze_batch_norm.is_none()
        && config.freezes(config.batch_size as i64)
        && model.graph.nodes.iter().any(|n| n.op.batch_norm().is_some())
    {
        context.note(format!(
            "batch normalisations keep their statistics: {} samples a step tell too little of them (`freeze_batch_norm: false` lets them follow)",
            config.batch_size
        ));
    }
    let training = serde_json::to_string(config).unwrap_or_default();
    let (piece, kept) = context.checkpoints.begin();
    let kept = match kept.and_then(|kept| Kept::read(kept, &training)) {
        Some(kept) if kept.course.facts.finished => {
            *model = kept.model;
            return Ok(());
        }
        kept => kept,
    };
    let hidden = expose_logits(model, context.data.task);
    let train = match &config.augment {
        Some(augment) => context.data.train.augmented(augment),
        None => context.data.train.clone(),
    };
    let asked = config.distill.as_ref().map(|d| Teacher::new((context.teacher)(&d.teacher)?, &train, context.data.task));
    let teacher = asked.transpose()?;
    let objective = config.objective(context.data.task, model);
    let course = Fit { config, context, train, teacher, objective, piece }.run(model, Course::new(training), kept, callback)?;
    callback.finish(model)?;
    if let (Some(name), Some(output)) = (hidden, model.graph.outputs.first_mut()) {
        output.name = name;
    }
    course.finish(model, |checkpoint| context.checkpoints.end(piece, checkpoint));
    Ok(())
}

/// What stays the same throughout a training.
struct Fit<'a> {
    config: &'a FitConfig,
    context: &'a Context<'a>,
    train: Split,
    teacher: Option<Teacher>,
    objective: Objective,
    /// Its number among the stage's pieces of work.
    piece: usize,
}

impl Fit<'_> {
    /// Trains to the end, from what was kept on.
    fn run(&self, model: &mut Model, new: Course, kept: Option<Kept>, callback: &mut dyn Callback) -> Result<Course, StageError> {
        let config = self.config;
        let rule = config.optimizer.kind();
        let (mut course, mut longest, mut remembered) = (new, Vec::new(), None);
        if let Some(kept) = kept {
            callback.recall(kept.callback);
            (*model, course, longest, remembered) = (kept.model, kept.course, kept.longest, Some(kept.rule));
        }
        let mut moved = attach(model)?;
        for (moved, longest) in moved.iter_mut().zip(longest) {
            moved.longest = longest;
        }
        let mut updates = Updates::new(rule, moved.iter().map(|m| m.tensor.shallow_clone()));
        if let Some(remembered) = remembered {
            let unfit =
                |reason| StageError::config("", format!("a checkpoint does not fit the training: {reason}; run with --fresh"));
            updates.recall(&remembered).map_err(unfit)?;
        }
        while course.facts.epoch < config.epochs {
            self.epoch(model, &mut course, &moved, &mut updates, callback)?;
            if self.judge(model, &mut course, callback)? {
                break;
            }
            course.next_epoch();
        }
        *model = course.best.take().unwrap_or_else(|| model.copy());
        Ok(course)
    }

    /// Trains to the end of the epoch that is under way.
    fn epoch(
        &self,
        model: &mut Model,
        course: &mut Course,
        moved: &[Moved],
        updates: &mut Updates,
        callback: &mut dyn Callback,
    ) -> Result<(), StageError> {
        let (config, context, seed) = (self.config, self.context, self.context.seed.wrapping_mul(0x9e37_79b9));
        let (epoch, steps, earlier) = (course.facts.epoch, self.steps(), course.facts.seconds);
        let started = Instant::now();
        let order = Order::Shuffled(seed.wrapping_add(epoch as u64));
        let (rule, schedule) = (config.optimizer.kind(), config.schedule.kind());
        for batch in self.train.batches_from(course.facts.batches, config.batch_size, order) {
            let (batch, step) = (batch?, epoch * steps + course.facts.batches);
            course.facts.batches += 1;
            // One sample alone has no variance for a batch normalisation to learn from.
            if batch.count() == 1 && config.batch_size > 1 && steps > 1 {
                continue;
            }
            let done = step as f64 / (config.epochs * steps) as f64;
            // What dropout draws follows from the step alone, so it needs no place in a checkpoint.
            sinter_model::start_from(seed.wrapping_add((self.piece * 0x85eb_ca6b + step) as u64));
            callback.before_step(model, Moment { step, done })?;
            let loss = self.loss(model, &batch)?;
            updates.clear_gradients();
            loss.f_backward()?;
            callback.after_backward(model)?;
            let rate = |leaf: usize| if rule.has_step_of_its_own() { config.lr.min(moved[leaf].longest) } else { config.lr };
            let factor = schedule.factor(done);
            let (weight_decay, momentum) = (config.weight_decay, config.momentum);
            updates.step(|leaf| Shared { lr: rate(leaf) * factor, weight_decay, momentum })?;
            course.loss = course.loss.f_add(&loss.f_detach()?)?;
            let batches = course.facts.batches;
            let stopping = context.checkpoints.stopping();
            if stopping || context.checkpoints.due() {
                course.facts.seconds = earlier + started.elapsed().as_secs_f64();
                let at = format!("epoch {} of {}, step {batches} of {steps}", epoch + 1, config.epochs);
                let keep = |checkpoint: &Checkpoint| context.checkpoints.keep(self.piece, checkpoint);
                course.lend(at.clone(), model, (moved, updates, callback), keep);
                if stopping {
                    return Err(StageError::Stopped { at });
                }
            }
            if (batches - 1).is_multiple_of(20) || batches == steps {
                context.progress(&format!("epoch {}/{}", epoch + 1, config.epochs), batches, steps);
            }
        }
        course.facts.seconds = earlier + started.elapsed().as_secs_f64();
        Ok(())
    }

    fn steps(&self) -> usize {
        self.train.len().div_ceil(self.config.batch_size)
    }

    /// The effective weights follow the latent ones, so they are computed anew at every step.
    fn loss(&self, model: &Model, batch: &Batch) -> Result<tch::Tensor, StageError> {
        let mode = if self.config.freezes(batch.count()) { Mode::Tune } else { Mode::Train };
        let output = Runner::new(model)?.run(&batch.inputs, mode)?.swap_remove(0);
        let taught = self.teacher.as_ref().map(|t| t.answer(batch)).transpose()?;
        Ok(self.objective.loss(&output, batch, taught.as_ref())?)
    }

    /// Tells how an epoch went; says whether to stop there.
    fn judge(&self, model: &Model, course: &mut Course, callback: &dyn Callback) -> Result<bool, StageError> {
        let (config, context, started) = (self.config, self.context, Instant::now());
        let (epoch, epochs) = (course.facts.epoch + 1, config.epochs);
        let loss = course.loss.f_double_value(&[])? / self.steps().max(1) as f64;
        if !loss.is_finite() {
            return Err(StageError::Diverged { epoch, loss, lr: config.lr });
        }
        let quality = match context.data.validation.is_empty() {
            true => None,
            false => Some(context.evaluate(model, &context.data.validation, None)?),
        };
        (context.events)(Event::Epoch {
            epoch,
            epochs,
            loss,
            metric: quality.as_ref().map_or_else(String::new, |q| q.metric.name.to_string()),
            value: quality.as_ref().map(|q| q.value),
            seconds: course.facts.seconds + started.elapsed().as_secs_f64(),
        });
        let settled = callback.settled(epoch as f64 / epochs as f64);
        let (Some(patience), Some(quality), true) = (config.patience, quality, settled) else { return Ok(false) };
        let score = quality.score();
        // What is no number is no best, and would not come back from a checkpoint.
        if score.is_finite() && course.facts.best.is_none_or(|best| score > best) {
            (course.facts.best, course.facts.waited, course.best) = (Some(score), 0, Some(model.copy()));
            return Ok(false);
        }
        course.facts.waited += 1;
        if course.facts.waited < patience {
            return Ok(false);
        }
        context.note(format!("stopped after epoch {epoch}: no improvement for {patience}"));
        Ok(true)
    }
}
