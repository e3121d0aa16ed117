//! First-order saliency: how much the loss would change if an element were zero.

use std::collections::BTreeMap;

use sinter_data::Order;
use sinter_exec::Runner;
use sinter_model::{Mode, Model, Role};
use tch::Tensor;

use crate::loss::{Objective, expose_logits};
use crate::stage::{Context, StageError};

/// `|w * dL/dw|` of every parameter, averaged over batches of training samples (Molchanov et al., 2019). Shapes are those of the
/// weights. `samples` bounds the work.
pub fn saliency(model: &Model, samples: usize, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
    let mut probe = model.copy();
    for weight in probe.weights.values_mut().filter(|w| w.role == Role::Parameter && w.latent().is_floating_point()) {
        let leaf = weight.latent().f_detach()?.f_set_requires_grad(true)?;
        weight.set_latent(leaf)?;
    }
    expose_logits(&mut probe, context.data.task);
    let objective = Objective { task: context.data.task, teaching: None, label_smoothing: 0.0 };
    let mut sums: BTreeMap<String, Tensor> = BTreeMap::new();
    let chosen = context.data.train.sample(samples, context.seed);
    for batch in chosen.batches(64, Order::Stored) {
        let batch = batch?;
        let output = Runner::new(&probe)?.run(&[batch.x.shallow_clone()], Mode::Predict)?.swap_remove(0);
        objective.loss(&output, &batch, None)?.f_backward()?;
        for (name, weight) in &mut probe.weights {
            let grad = weight.latent().grad();
            if weight.role != Role::Parameter || !grad.defined() {
                continue;
            }
            let term = weight.effective()?.f_detach()?.f_mul(&grad)?.f_abs()?;
            let sum = match sums.remove(name) {
                Some(sum) => sum.f_add(&term)?,
                None => term,
            };
            sums.insert(name.clone(), sum);
            weight.latent().shallow_clone().zero_grad();
        }
    }
    Ok(sums)
}
