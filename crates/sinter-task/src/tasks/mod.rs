//! The tasks, one file each: what output goes with the data, and what training lowers. Their names and labels are told in `sinter-data`.
//!
//! To add one: its options in `sinter-data/src/task.rs`, a file here that implements [`Work`], and its line in [`of`]; metrics say which tasks they fit.

mod classify;
mod embed;
mod language;
mod multi_label;
mod reconstruct;
mod regress;
mod segment;
mod transcribe;

use sinter_data::{Batch, Dataset, Task};
use sinter_model::Operator;
use tch::Tensor;

pub(crate) use segment::class_axis;

use crate::error::TaskError;
use crate::losses::{HardTargets, SoftTargets, squared_error};

/// What a task wants of a model, and what it trains by.
pub trait Work {
    /// What a data set of it does, in words: `classifies`.
    fn verb(&self) -> &'static str;

    /// Why a model whose first output has this shape for one sample does not go with the data.
    fn misfit(&self, output: &[i64], data: &Dataset) -> Option<String>;

    /// Why training samples, with labels or without, teach nothing by themselves.
    fn unteachable(&self, labelled: bool) -> Option<&'static str> {
        (!labelled).then_some("labels, and there are none")
    }

    /// The input of a last operator that losses want in its place.
    fn logits(&self, _last: &dyn Operator) -> Option<usize> {
        None
    }

    /// The loss on the labels of a batch, a scalar; `None` without labels.
    fn loss(&self, output: &Tensor, batch: &Batch, hard: &HardTargets) -> Result<Option<Tensor>, TaskError>;

    /// The loss on what a teacher gives, a scalar. By default the squared error.
    fn learned(
        &self,
        output: &Tensor,
        taught: &Tensor,
        _batch: &Batch,
        _soft: &SoftTargets,
        _hard: &HardTargets,
    ) -> Result<Tensor, TaskError> {
        squared_error(output, taught)
    }
}

/// What a task wants.
pub fn of(task: Task) -> Box<dyn Work> {
    match task {
        Task::Classify(_) => Box::new(classify::Classify),
        Task::MultiLabel(_) => Box::new(multi_label::MultiLabel),
        Task::Segment(_) => Box::new(segment::Segment),
        Task::Transcribe(options) => Box::new(transcribe::Transcribe { blank: options.blank }),
        Task::Regress(_) => Box::new(regress::Regress),
        Task::Reconstruct(_) => Box::new(reconstruct::Reconstruct),
        Task::Embed(_) => Box::new(embed::Embed),
        Task::Language(_) => Box::new(language::Language),
    }
}

/// A teacher's logits, or the logarithms of its probabilities, which serve a softmax alike.
pub(crate) fn logarithms(output: &Tensor, probabilities: bool) -> Result<Tensor, TaskError> {
    Ok(if probabilities { output.f_clamp_min(1e-9)?.f_log()? } else { output.shallow_clone() })
}

/// What a teacher's distributions over the last axis teach: those of logits, or of probabilities.
pub(crate) fn soft_targets(
    output: &Tensor,
    taught: &Tensor,
    soft: &SoftTargets,
    hard: &HardTargets,
) -> Result<Tensor, TaskError> {
    soft.divergence(&logarithms(output, hard.probabilities)?, &logarithms(taught, hard.probabilities)?)
}

/// The number of values for one sample.
pub(crate) fn per_sample(shape: &[i64]) -> i64 {
    shape.iter().skip(1).product()
}

/// Why a model does not put out as many values as there are labels.
pub(crate) fn not_as_many(output: &[i64], data: &Dataset) -> Option<String> {
    let shape = data.test.label_shape()?;
    (per_sample(output) != shape.iter().product::<i64>()).then(|| format!("has labels of shape {shape:?}"))
}
