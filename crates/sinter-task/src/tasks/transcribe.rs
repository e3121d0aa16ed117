//! Labels in their order, without their places.

use sinter_data::{Batch, Dataset};
use sinter_model::Operator;
use tch::Tensor;

use super::{Work, soft_targets};
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, ctc};

/// Connectionist temporal classification; of a teacher the distribution at each step.
pub(super) struct Transcribe {
    pub blank: i64,
}

impl Work for Transcribe {
    fn verb(&self) -> &'static str {
        "transcribes"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        if output.len() != 3 {
            return Some("wants an output of [samples, steps, classes]".into());
        }
        let shape = data.test.label_shape();
        if let Some(shape) = shape.filter(|s| s.len() != 1) {
            return Some(format!("has labels of shape {shape:?} for a sample: a row of characters, padded with -1, is wanted"));
        }
        let wanted = (data.classes.len() as i64).max(self.blank + 1);
        (output[2] < wanted).then(|| format!("has {wanted} classes, the blank among them"))
    }

    fn logits(&self, last: &dyn Operator) -> Option<usize> {
        last.logits()
    }

    fn loss(&self, output: &Tensor, batch: &Batch, hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        batch.y.as_ref().map(|labels| ctc(output, labels, self.blank, hard.probabilities)).transpose()
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        soft: &SoftTargets,
        hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        soft_targets(output, taught, soft, hard)
    }
}
