//! Losses.

use sinter_data::{Batch, Task};
use sinter_model::Model;
use tch::{Kind, Reduction, Tensor};

use crate::stage::StageError;

/// Learning from a teacher's soft targets (Hinton et al., 2015).
pub struct Teaching {
    pub teacher: Model,
    /// Softens both distributions; gradients are scaled back by its square.
    pub temperature: f64,
    /// Weight of the teacher's part; the labels get the rest.
    pub alpha: f64,
}

/// What training lowers.
pub struct Objective {
    pub task: Task,
    pub teaching: Option<Teaching>,
    pub label_smoothing: f64,
}

impl Objective {
    /// The loss of a batch: a scalar. `taught` is the teacher's output, when there is a teacher.
    pub fn loss(&self, output: &Tensor, batch: &Batch, taught: Option<&Tensor>) -> Result<Tensor, StageError> {
        let hard = match (self.task, &batch.y) {
            (Task::Reconstruct, _) => Some(output.f_mse_loss(&batch.x.f_reshape(output.size())?, Reduction::Mean)?),
            (Task::Classify, Some(y)) => {
                Some(output.f_cross_entropy_loss(y, None::<&Tensor>, Reduction::Mean, -100, self.label_smoothing)?)
            }
            (Task::Classify, None) => None,
        };
        let (Some(teaching), Some(taught)) = (&self.teaching, taught) else {
            return hard.ok_or_else(|| StageError::config("", "training needs labels, and the data set has none"));
        };
        let soft = match self.task {
            Task::Reconstruct => output.f_mse_loss(taught, Reduction::Mean)?,
            Task::Classify => {
                let t = teaching.temperature;
                let log_student = output.f_div_scalar(t)?.f_log_softmax(-1, Kind::Float)?;
                let teacher = taught.f_div_scalar(t)?.f_softmax(-1, Kind::Float)?;
                // The sum over classes, the mean over samples.
                let cross = teacher.f_mul(&teacher.f_log()?.f_sub(&log_student)?.f_nan_to_num(0.0, None, None)?)?;
                cross.f_sum_dim_intlist(-1, false, Kind::Float)?.f_mean(Kind::Float)?.f_mul_scalar(t * t)?
            }
        };
        Ok(match hard {
            Some(hard) => soft.f_mul_scalar(teaching.alpha)?.f_add(&hard.f_mul_scalar(1.0 - teaching.alpha)?)?,
            None => soft,
        })
    }
}

/// Makes a classifier that ends in Softmax put out what goes into it: losses want logits. Returns the name of the output that it had.
pub(crate) fn expose_logits(model: &mut Model, task: Task) -> Option<String> {
    let output = model.graph.outputs.first()?.name.clone();
    let node = model.graph.nodes.iter().find(|n| n.outputs.contains(&output))?;
    if task != Task::Classify || !matches!(node.kind(), "Softmax" | "LogSoftmax") {
        return None;
    }
    let logits = node.inputs.first()?.clone();
    model.graph.outputs[0].name = logits;
    Some(output)
}
