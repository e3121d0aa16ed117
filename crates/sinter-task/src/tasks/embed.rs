//! Vectors that lie near those of their like.

use sinter_data::{Batch, Dataset};
use tch::Tensor;

use super::Work;
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, cosine_distance};

/// Learned from a teacher's vectors: labels judge, and teach nothing.
pub(super) struct Embed;

impl Work for Embed {
    fn verb(&self) -> &'static str {
        "embeds"
    }

    fn misfit(&self, output: &[i64], _data: &Dataset) -> Option<String> {
        (super::per_sample(output) < 2).then(|| "wants a vector for each sample".to_string())
    }

    fn unteachable(&self, _labelled: bool) -> Option<&'static str> {
        Some("a teacher: labels of `task: embed` judge, and teach nothing")
    }

    fn loss(&self, _output: &Tensor, _batch: &Batch, _hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        Ok(None)
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        _soft: &SoftTargets,
        _hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        cosine_distance(output, taught)
    }
}
