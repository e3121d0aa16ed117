//! Cross entropy of class labels, with label smoothing (Szegedy et al., 2016).

use tch::{Reduction, Tensor};

use crate::error::TaskError;

/// The mean over samples. `output` are logits `[n, classes]`, `labels` int64 `[n]`.
pub(super) fn loss(output: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor, TaskError> {
    Ok(output.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, label_smoothing)?)
}
