//! A teacher at work: what it says to each batch.

use sinter_data::{Batch, Order, Split, Task};
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use sinter_task::{TaskError, expose_logits};
use tch::Tensor;

use crate::error::StageError;

/// What a teacher says to each batch. Where samples are the same in every epoch and its answers fit into memory, it is asked once.
pub(crate) struct Teacher {
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
            let part = teacher.ask(&batch?.inputs)?;
            let each = part.numel() / part.size().first().map_or(1, |&n| n.max(1) as usize);
            if each * split.len() > KNOWN {
                return Ok(teacher);
            }
            parts.push(part);
        }
        teacher.known = Some(Tensor::f_cat(&parts, 0)?);
        Ok(teacher)
    }

    fn ask(&self, inputs: &[Tensor]) -> Result<Tensor, StageError> {
        let outputs = tch::no_grad(|| Runner::new(&self.model)?.run(inputs, Mode::Predict))?;
        outputs.into_iter().next().ok_or(StageError::Task(TaskError::NoOutput))
    }

    /// Its output for a batch.
    pub fn answer(&self, batch: &Batch) -> Result<Tensor, StageError> {
        match &self.known {
            Some(known) => Ok(known.f_index_select(0, &Tensor::from_slice(&batch.places))?),
            None => self.ask(&batch.inputs),
        }
    }
}
