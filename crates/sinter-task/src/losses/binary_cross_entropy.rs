//! Cross entropy of labels that each hold or do not.

use tch::{Reduction, Tensor};

use crate::error::TaskError;

/// How near to 0 or 1 a probability may come: float32 has no logarithm of what lies beyond.
const NEAREST: f64 = 1e-6;

/// The mean over all labels, 0 or 1 or between. `output` are logits, or probabilities where `probabilities` says so; as many as labels.
pub(crate) fn of_labels(output: &Tensor, labels: &Tensor, probabilities: bool) -> Result<Tensor, TaskError> {
    let labels = labels.f_reshape(output.size())?;
    Ok(match probabilities {
        true => output.f_clamp(NEAREST, 1.0 - NEAREST)?.f_binary_cross_entropy::<Tensor>(&labels, None, Reduction::Mean)?,
        false => output.f_binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::Mean)?,
    })
}

/// The same with what a teacher gives for labels.
pub(crate) fn of_teacher(output: &Tensor, taught: &Tensor, probabilities: bool) -> Result<Tensor, TaskError> {
    let labels = if probabilities { taught.f_clamp(0.0, 1.0)? } else { taught.f_sigmoid()? };
    of_labels(output, &labels, probabilities)
}
