//! Learning from a teacher's soft targets (Hinton et al., 2015).

use tch::{Kind, Tensor};

use crate::error::TaskError;

/// How a teacher's outputs are learned from.
#[derive(Debug, Clone, Copy)]
pub struct SoftTargets {
    /// Softens both distributions; gradients are scaled back by its square.
    pub temperature: f64,
    /// Weight of the teacher's part; the labels get the rest.
    pub alpha: f64,
}

impl SoftTargets {
    /// The Kullback-Leibler divergence of the softened distributions: the sum over classes, the mean over samples.
    pub(crate) fn divergence(&self, output: &Tensor, taught: &Tensor) -> Result<Tensor, TaskError> {
        let t = self.temperature;
        let log_student = output.f_div_scalar(t)?.f_log_softmax(-1, Kind::Float)?;
        let teacher = taught.f_div_scalar(t)?.f_softmax(-1, Kind::Float)?;
        let cross = teacher.f_mul(&teacher.f_log()?.f_sub(&log_student)?.f_nan_to_num(0.0, None, None)?)?;
        Ok(cross.f_sum_dim_intlist(-1, false, Kind::Float)?.f_mean(Kind::Float)?.f_mul_scalar(t * t)?)
    }
}
