//! Losses.

use sinter_data::{Batch, Order, Split, Task};
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use tch::{Kind, Reduction, Tensor};

use crate::stage::StageError;

/// Learning from a teacher's soft targets (Hinton et al., 2015).
pub struct Teaching {
    /// Softens both distributions; gradients are scaled back by its square.
    pub temperature: f64,
    /// Weight of the teacher's part; the labels get the rest.
    pub alpha: f64,
}

/// What a teacher says to each batch. Where samples are the same in every epoch and its answers fit into memory, it is asked once.
pub struct Teacher {
    model: Model,
    /// The outputs for every sample of the split, `[samples, ...]`.
    known: Option<Tensor>,
}

/// The most that a teacher's answers may take, in elements.
const KNOWN: usize = 1 << 26;
const ASKED_AT_ONCE: usize = 256;

impl Teacher {
    /// Asks the teacher about a split's training samples.
    pub fn new(mut model: Model, split: &Split, task: Task) -> Result<Self, StageError> {
        expose_logits(&mut model, task);
        let mut teacher = Self { model, known: None };
        if split.is_augmented() || split.is_empty() {
            return Ok(teacher);
        }
        let mut parts = Vec::new();
        for batch in split.batches(ASKED_AT_ONCE, Order::Stored) {
            let part = teacher.ask(&batch?.x)?;
            let each = part.numel() / part.size().first().map_or(1, |&n| n.max(1) as usize);
            if each * split.len() > KNOWN {
                return Ok(teacher);
            }
            parts.push(part);
        }
        teacher.known = Some(Tensor::f_cat(&parts, 0)?);
        Ok(teacher)
    }

    fn ask(&self, x: &Tensor) -> Result<Tensor, StageError> {
        let outputs = tch::no_grad(|| Runner::new(&self.model)?.run(&[x.shallow_clone()], Mode::Predict))?;
        outputs.into_iter().next().ok_or_else(|| StageError::config("teacher", "the teacher has no output"))
    }

    /// Its output for a batch.
    pub fn answer(&self, batch: &Batch) -> Result<Tensor, StageError> {
        match &self.known {
            Some(known) => Ok(known.f_index_select(0, &Tensor::from_slice(&batch.places))?),
            None => self.ask(&batch.x),
        }
    }
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
pub fn expose_logits(model: &mut Model, task: Task) -> Option<String> {
    let output = model.graph.outputs.first()?.name.clone();
    let node = model.graph.nodes.iter().find(|n| n.outputs.contains(&output))?;
    if task != Task::Classify || !matches!(node.kind(), "Softmax" | "LogSoftmax") {
        return None;
    }
    let logits = node.inputs.first()?.clone();
    model.graph.outputs[0].name = logits;
    Some(output)
}
