//! The training loop.

use std::time::Instant;

use sinter_data::Order;
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use sinter_task::expose_logits;
use tch::{Device, Kind, Tensor, nn};

use crate::callback::{Callback, NoCallback};
use crate::config::FitConfig;
use crate::context::Context;
use crate::error::StageError;
use crate::event::Event;
use crate::leaves::attach;
use crate::optimizers::Shared;
use crate::teacher::Teacher;

/// Trains the model in place. Every encoding holds throughout: gradients reach the latent tensors and centroids through the chain.
///
/// Errors when libtorch does, and when the loss stops being a number.
pub fn fit(model: &mut Model, config: &FitConfig, context: &Context) -> Result<(), StageError> {
    fit_with(model, config, context, &mut NoCallback)
}

/// [`fit`], with a callback that changes the model's chains on the way. Early stopping then compares only epochs that end after the last
/// change, since quality falls while masks grow: see [`Callback::settled`].
pub fn fit_with(model: &mut Model, config: &FitConfig, context: &Context, callback: &mut dyn Callback) -> Result<(), StageError> {
    if config.epochs == 0 {
        return callback.finish(model);
    }
    let hidden = expose_logits(model, context.data.task);
    let objective = config.objective(context.data.task, model);
    let train = &match &config.augment {
        Some(augment) => context.data.train.augmented(augment),
        None => context.data.train.clone(),
    };
    let asked = config.distill.as_ref().map(|d| Teacher::new((context.teacher)(&d.teacher)?, train, objective.task));
    let teacher = asked.transpose()?;
    let store = nn::VarStore::new(Device::Cpu);
    let longest_steps = attach(model, &store)?;
    let rule = config.optimizer.kind();
    let shared = Shared { lr: config.lr, weight_decay: config.weight_decay, momentum: config.momentum };
    let mut optimizer = rule.build(&store, &shared)?;
    let (adaptive, schedule) = (rule.has_step_of_its_own(), config.schedule.kind());
    let steps = train.len().div_ceil(config.batch_size);
    let mut best: Option<(f64, Model)> = None;
    let mut waited = 0;
    let normalised = model.graph.nodes.iter().any(|n| n.op.batch_norm().is_some());
    if normalised && config.freeze_batch_norm.is_none() && config.freezes(config.batch_size as i64) {
        context.note(format!(
            "batch normalisations keep their statistics: {} samples a step tell too little of them (`freeze_batch_norm: false` lets them follow)",
            config.batch_size
        ));
    }
    for epoch in 0..config.epochs {
        let started = Instant::now();
        let mut total = Tensor::zeros([], (Kind::Float, Device::Cpu));
        let order = Order::Shuffled(context.seed.wrapping_mul(0x9e37_79b9).wrapping_add(epoch as u64));
        for (step, batch) in train.batches(config.batch_size, order).enumerate() {
            let batch = batch?;
            // One sample alone has no variance for a batch normalisation to learn from.
            if batch.count() == 1 && config.batch_size > 1 && steps > 1 {
                continue;
            }
            let done = (epoch * steps + step) as f64 / (config.epochs * steps) as f64;
            for (group, longest) in longest_steps.iter().enumerate() {
                let lr = if adaptive { config.lr.min(*longest) } else { config.lr };
                optimizer.set_lr_group(group, lr * schedule.factor(done));
            }
            callback.before_step(model, done)?;
            let mode = if config.freezes(batch.count()) { Mode::Tune } else { Mode::Train };
            // The effective weights follow the latent ones, so they are computed anew at every step.
            let output = Runner::new(model)?.run(&batch.inputs, mode)?.swap_remove(0);
            let taught = teacher.as_ref().map(|t| t.answer(&batch)).transpose()?;
            let loss = objective.loss(&output, &batch, taught.as_ref())?;
            optimizer.zero_grad();
            loss.f_backward()?;
            callback.after_backward(model)?;
            optimizer.step();
            total = total.f_add(&loss.f_detach()?)?;
            if step % 20 == 0 || step + 1 == steps {
                context.progress(&format!("epoch {}/{}", epoch + 1, config.epochs), step + 1, steps);
            }
        }
        let loss = total.f_double_value(&[])? / steps.max(1) as f64;
        if !loss.is_finite() {
            return Err(StageError::Diverged { epoch: epoch + 1, loss, lr: config.lr });
        }
        let quality = match context.data.validation.is_empty() {
            true => None,
            false => Some(context.evaluate(model, &context.data.validation, None)?),
        };
        (context.events)(Event::Epoch {
            epoch: epoch + 1,
            epochs: config.epochs,
            loss,
            metric: quality.as_ref().map_or_else(String::new, |q| q.metric.name.to_string()),
            value: quality.as_ref().map(|q| q.value),
            seconds: started.elapsed().as_secs_f64(),
        });
        let settled = callback.settled((epoch + 1) as f64 / config.epochs as f64);
        if let (Some(patience), Some(quality), true) = (config.patience, quality, settled) {
            let score = quality.score();
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
    callback.finish(model)?;
    if let (Some(name), Some(output)) = (hidden, model.graph.outputs.first_mut()) {
        output.name = name;
    }
    Ok(())
}
