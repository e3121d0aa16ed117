//! What training lowers: a loss on the labels, one on a teacher's soft targets, or both.

mod cross_entropy;
mod distillation;
mod reconstruction;

use sinter_data::{Batch, Task};
use sinter_model::Model;
use tch::Tensor;

pub use distillation::SoftTargets;

use crate::error::TaskError;

/// What training lowers.
#[derive(Debug)]
pub struct Objective {
    /// What the model is asked to do.
    pub task: Task,
    /// How much a teacher counts, where there is one.
    pub soft: Option<SoftTargets>,
    /// Probability mass spread over all classes.
    pub label_smoothing: f64,
}

impl Objective {
    /// The loss of a batch: a scalar. `taught` is the teacher's output, when there is a teacher.
    pub fn loss(&self, output: &Tensor, batch: &Batch, taught: Option<&Tensor>) -> Result<Tensor, TaskError> {
        let hard = match (self.task, &batch.y) {
            (Task::Reconstruct, _) => Some(reconstruction::loss(output, batch.x())?),
            (Task::Classify, Some(y)) => Some(cross_entropy::loss(output, y, self.label_smoothing)?),
            (Task::Classify, None) => None,
        };
        let (Some(soft), Some(taught)) = (&self.soft, taught) else {
            return hard.ok_or(TaskError::NoLabels("training"));
        };
        let learned = match self.task {
            Task::Reconstruct => reconstruction::loss(output, taught)?,
            Task::Classify => soft.divergence(output, taught)?,
        };
        Ok(match hard {
            Some(hard) => learned.f_mul_scalar(soft.alpha)?.f_add(&hard.f_mul_scalar(1.0 - soft.alpha)?)?,
            None => learned,
        })
    }
}

/// Makes a classifier that ends in Softmax put out what goes into it: losses want logits. Returns the name of the output that it had.
pub fn expose_logits(model: &mut Model, task: Task) -> Option<String> {
    let output = model.graph.outputs.first()?.name.clone();
    let node = model.graph.nodes.iter().find(|n| n.outputs.contains(&output))?;
    let logits = node.op.logits().filter(|_| task == Task::Classify)?;
    let logits = node.inputs.get(logits)?.clone();
    model.graph.outputs[0].name = logits;
    Some(output)
}
