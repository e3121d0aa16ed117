//! A class for each position: pixels, tokens, frames.

use sinter_data::{Batch, Dataset};
use sinter_model::Operator;
use tch::Tensor;

use super::{Work, logarithms, soft_targets};
use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, cross_entropy};

/// Cross entropy at each position that counts.
pub(super) struct Segment;

/// Which axis of an output `[n, ...]` holds the classes of labels `[n, ...]`: the one that is too many. Where it may be the second or the last, it is the
/// second for images (positions of two axes or more), and the last for sequences.
pub(crate) fn class_axis(output: &[i64], labels: &[i64]) -> Option<usize> {
    let fits = |axis: usize| {
        let rest: Vec<i64> = output.iter().enumerate().filter(|(at, _)| *at != axis).map(|(_, n)| *n).collect();
        rest == labels
    };
    if output.len() != labels.len() + 1 || output.len() < 2 {
        return None;
    }
    let last = output.len() - 1;
    let order = if labels.len() > 2 { [1, last] } else { [last, 1] };
    order.into_iter().find(|&axis| fits(axis))
}

/// The output with the classes at the end, `[positions, classes]`.
fn rows(output: &Tensor, axis: usize) -> Result<Tensor, TaskError> {
    let classes = output.size()[axis];
    Ok(output.f_movedim_int(axis as i64, -1)?.f_reshape([-1, classes])?)
}

fn axis_of(output: &Tensor, labels: &[i64]) -> Result<usize, TaskError> {
    let wrong = || TaskError::Runtime(format!("an output of {:?} has no classes for labels of {labels:?}", output.size()));
    class_axis(&output.size(), labels).ok_or_else(wrong)
}

impl Work for Segment {
    fn verb(&self) -> &'static str {
        "classifies each position"
    }

    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String> {
        let shape = data.test.label_shape()?;
        let n = output.first().copied().unwrap_or(1);
        let Some(axis) = class_axis(output, &[&[n], &shape[..]].concat()) else {
            return Some(format!("has labels of shape {shape:?}: the output has one axis more, that of classes"));
        };
        let wanted = data.classes.len() as i64;
        (output[axis] < wanted).then(|| format!("has {wanted} classes"))
    }

    fn logits(&self, last: &dyn Operator) -> Option<usize> {
        last.logits()
    }

    fn loss(&self, output: &Tensor, batch: &Batch, hard: &HardTargets) -> Result<Option<Tensor>, TaskError> {
        let Some(labels) = &batch.y else { return Ok(None) };
        let axis = axis_of(output, &labels.size())?;
        let rows = logarithms(&rows(output, axis)?, hard.probabilities)?;
        cross_entropy(&rows, &labels.f_reshape([-1])?, hard.label_smoothing).map(Some)
    }

    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        batch: &Batch,
        soft: &SoftTargets,
        hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        // Without labels at hand it is the second of images, the last of sequences.
        let usual = if output.dim() > 3 { 1 } else { output.dim() - 1 };
        let axis = batch.y.as_ref().map_or(Ok(usual), |labels| axis_of(output, &labels.size()))?;
        soft_targets(&rows(output, axis)?, &rows(taught, axis)?, soft, hard)
    }
}

#[cfg(test)]
mod tests {
    use super::class_axis;

    #[test]
    fn classes_are_found_by_shape() {
        assert_eq!(class_axis(&[2, 5, 8, 8], &[2, 8, 8]), Some(1));
        assert_eq!(class_axis(&[2, 8, 8, 5], &[2, 8, 8]), Some(3));
        assert_eq!(class_axis(&[2, 8, 8, 8], &[2, 8, 8]), Some(1));
        assert_eq!(class_axis(&[2, 9, 9], &[2, 9]), Some(2));
        assert_eq!(class_axis(&[2, 5, 9], &[2, 9]), Some(1));
        assert_eq!(class_axis(&[2, 5], &[2]), Some(1));
        assert_eq!(class_axis(&[2, 5, 7], &[2, 9]), None);
        assert_eq!(class_axis(&[2, 9], &[2, 9]), None);
    }
}
