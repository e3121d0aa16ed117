//! What follows, token by token.

use sinter_data::{Batch, Dataset};
use sinter_model::Operator;
use tch::Tensor;

use super::{Work, logarithms, soft_targets};
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, cross_entropy};

/// Cross entropy of each token that is scored; of a teacher its distribution over the vocabulary.
pub(super) struct Language;

/// One row a token.
fn rows(output: &Tensor) -> Result<Tensor, TaskError> {
    Ok(output.f_flatten(0, -2)?)
}

impl Work for Language {
    fn verb(&self) -> &'static str {
        "continues a text"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        let tokens = data.test.shape().first().copied().unwrap_or(0);
        if output.len() != 3 || output[1] != tokens {
            return Some(format!("has windows of {tokens} tokens: an output of [samples, {tokens}, vocabulary] is wanted"));
        }
        let wanted = data.classes.len() as i64;
        (output[2] < wanted).then(|| format!("has tokens up to number {}: the tokenizer is that of another model", wanted - 1))
    }

    fn logits(&self, last: &dyn Operator) -> Option<usize> {
        last.logits()
    }

    fn loss(&self, output: &Tensor, batch: &Batch, hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        let Some(labels) = &batch.y else { return Ok(None) };
        let rows = logarithms(&rows(output)?, hard.probabilities)?;
        cross_entropy(&rows, &labels.f_reshape([-1])?, hard.label_smoothing).map(Some)
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        soft: &SoftTargets,
        hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        soft_targets(&rows(output)?, &rows(taught)?, soft, hard)
    }
}
