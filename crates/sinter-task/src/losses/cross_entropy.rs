//! Cross entropy of class labels, with label smoothing (Szegedy et al., 2016).

use sinter_data::NO_LABEL;
use tch::{Reduction, Tensor};

use crate::error::TaskError;

/// The mean over labels that count. `output` are logits `[n, classes]`, `labels` int64 `[n]`.
pub(crate) fn loss(output: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor, TaskError> {
    Ok(output.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, NO_LABEL, label_smoothing)?)
}
