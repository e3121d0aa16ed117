//! What gradients tell about a weight's importance.

use std::collections::BTreeMap;

use sinter_data::{Order, Split, Task};
use sinter_exec::Runner;
use sinter_model::{Mode, Model, Role};
use sinter_task::{HardTargets, Objective, expose_logits, gives_probabilities};
use tch::Tensor;

use crate::Progress;
use crate::error::CalibrateError;

/// `|w * dL/dw|` of every parameter, averaged over batches of samples: how much the loss would change, to first order, if an
/// element were zero (Molchanov et al., 2019). Shapes are those of the weights.
pub fn saliency(
    model: &Model,
    task: Task,
    samples: &Split,
    progress: Progress,
) -> Result<BTreeMap<String, Tensor>, CalibrateError> {
    gather(model, task, samples, 64, progress, &|value, grad| value.f_mul(grad)?.f_abs())
}

/// The mean of `(dL/dw)^2` of every parameter over small batches of samples: the diagonal of the empirical Fisher matrix,
/// which stands in for that of the Hessian (LeCun et al., 1990; Theis et al., 2018). Shapes are those of the weights.
pub fn fisher(
    model: &Model,
    task: Task,
    samples: &Split,
    progress: Progress,
) -> Result<BTreeMap<String, Tensor>, CalibrateError> {
    // Gradients of a batch average out; small batches keep most of the squares.
    gather(model, task, samples, 8, progress, &|_, grad| grad.f_square()?.f_mul_scalar(8.0))
}

type Term<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<Tensor, tch::TchError>;

/// The mean over batches of a term of each parameter's value and gradient.
fn gather(
    model: &Model,
    task: Task,
    samples: &Split,
    batch: usize,
    progress: Progress,
    term: Term,
) -> Result<BTreeMap<String, Tensor>, CalibrateError> {
    let mut probe = model.copy();
    for weight in probe.weights.values_mut().filter(|w| w.role == Role::Parameter && w.latent().is_floating_point()) {
        let leaf = weight.latent().f_detach()?.f_set_requires_grad(true)?;
        weight.set_latent(leaf)?;
    }
    expose_logits(&mut probe, task);
    let objective =
        Objective { task, soft: None, hard: HardTargets { label_smoothing: 0.0, probabilities: gives_probabilities(&probe) } };
    let mut sums: BTreeMap<String, Tensor> = BTreeMap::new();
    let batches = samples.len().div_ceil(batch).max(1);
    for (i, batch) in samples.batches(batch, Order::Stored).enumerate() {
        let batch = batch?;
        // The effective weights carry the gradients of one pass, so they are computed anew for each.
        let runner = Runner::new(&probe)?;
        let output = runner.run(&batch.inputs, Mode::Predict)?.swap_remove(0);
        objective.loss(&output, &batch, None)?.f_backward()?;
        for (name, weight) in &probe.weights {
            let grad = weight.latent().grad();
            let Some(value) = runner.weight(name).filter(|_| weight.role == Role::Parameter && grad.defined()) else { continue };
            let part = term(&value.f_detach()?, &grad)?.f_div_scalar(batches as f64)?;
            let sum = match sums.remove(name) {
                Some(sum) => sum.f_add(&part)?,
                None => part,
            };
            sums.insert(name.clone(), sum);
            weight.latent().shallow_clone().zero_grad();
        }
        if i % 16 == 0 || i + 1 == batches {
            progress("gradients", i + 1, batches);
        }
    }
    Ok(sums)
}
