//! What training lowers, and what of a model it looks at.

use sinter_data::{Batch, Task};
use sinter_model::{Model, ParamsOf};
use tch::Tensor;

use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets};
use crate::tasks::of;

/// What training lowers.
#[derive(Debug)]
pub struct Objective {
    /// What the model is asked to do.
    pub task: Task,
    /// How much a teacher counts, where there is one.
    pub soft: Option<SoftTargets>,
    /// How labels are learned from.
    pub hard: HardTargets,
}

impl Objective {
    /// The loss of a batch: a scalar. `taught` is the teacher's output, when there is a teacher.
    pub fn loss(&self, output: &Tensor, batch: &Batch, taught: Option<&Tensor>) -> Result<Tensor, TaskError> {
        let work = of(self.task);
        let hard = work.loss(output, batch, &self.hard)?;
        let (Some(soft), Some(taught)) = (&self.soft, taught) else {
            return hard.ok_or(TaskError::NoLabels("training"));
        };
        let learned = work.learned(output, taught, batch, soft, &self.hard)?;
        Ok(match hard {
            Some(hard) => learned.f_mul_scalar(soft.alpha)?.f_add(&hard.f_mul_scalar(1.0 - soft.alpha)?)?,
            None => learned,
        })
    }
}

/// Makes a model that ends in Softmax, or for labels of their own in Sigmoid, put out what goes into it: losses want logits. Returns the name of
/// the output that it had.
pub fn expose_logits(model: &mut Model, task: Task) -> Option<String> {
    let output = model.graph.outputs.first()?.name.clone();
    let node = model.graph.nodes.iter().find(|n| n.outputs.contains(&output))?;
    let logits = node.inputs.get(of(task).logits(node.op.as_ref())?)?.clone();
    model.graph.outputs[0].name = logits;
    Some(output)
}

/// Whether the first output holds probabilities: they come out of a Softmax or Sigmoid, and are at most moved or averaged on the way.
pub fn gives_probabilities(model: &Model) -> bool {
    let mut name = model.graph.outputs.first().map(|o| o.name.clone());
    while let Some(node) = name.and_then(|name| model.graph.nodes.iter().find(|n| n.outputs.contains(&name))) {
        if node.op.logits().or(node.op.logistic()).is_some() {
            return true;
        }
        let moves = node.op.quantization().params == ParamsOf::Input || node.op.averages();
        name = node.inputs.first().filter(|_| moves).cloned();
    }
    false
}
