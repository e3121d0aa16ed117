//! How far a vector turned away from another.

use tch::{Kind, Tensor};

use crate::error::TaskError;

/// One minus the cosine, the mean over samples `[n, ...]`.
pub(crate) fn loss(output: &Tensor, taught: &Tensor) -> Result<Tensor, TaskError> {
    let n = output.size().first().copied().unwrap_or(1);
    let (a, b) = (output.f_reshape([n, -1])?, taught.f_reshape([n, -1])?);
    Ok(Tensor::f_cosine_similarity(&a, &b, 1, 1e-8)?.f_neg()?.f_add_scalar(1.0)?.f_mean(Kind::Float)?)
}
