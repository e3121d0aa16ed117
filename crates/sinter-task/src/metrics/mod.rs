//! The metrics, one file each.
//!
//! To add one: a file with a documented struct of its options that implements [`Measure`], and one line in the list below.

mod accuracy;
mod auc;
mod confusion;
mod cosine;
mod f1;
mod mse;

use std::fmt::Debug;

use sinter_data::Task;
use tch::Tensor;

pub use auc::area_under_curve;

use crate::error::TaskError;
use crate::metric::Metric;

/// The computation of a metric.
pub trait Measure: Debug + Send + Sync {
    /// What it is.
    fn metric(&self) -> Metric;

    /// Whether it can be measured where the task is this and labels are there or not.
    fn fits(&self, task: Task, labelled: bool) -> bool;

    /// Whether it compares with the outputs of the float model.
    fn wants_reference(&self) -> bool {
        false
    }

    /// Begins with nothing seen.
    fn start(&self) -> Box<dyn Tally>;
}

/// What a metric gathers, batch by batch.
pub trait Tally {
    /// Takes in a batch.
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError>;

    /// The value over all samples.
    fn finish(self: Box<Self>) -> Outcome;
}

/// A batch as metrics see it, one row a sample.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What went in, `[n, values]`.
    pub input: &'a Tensor,
    /// What came out, `[n, values]`.
    pub output: &'a Tensor,
    /// int64 `[n]`.
    pub labels: Option<&'a Tensor>,
    /// What the float model gives, of the output's shape.
    pub reference: Option<&'a Tensor>,
}

impl<'a> Seen<'a> {
    fn labels(&self, who: &'static str) -> Result<&'a Tensor, TaskError> {
        self.labels.ok_or(TaskError::NoLabels(who))
    }
}

/// A metric's value, and what else was seen on the way.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The value.
    pub value: f64,
    /// Share of samples whose label is among the five largest outputs.
    pub top5: Option<f64>,
    /// `confusion[label][predicted]`.
    pub confusion: Option<Vec<Vec<u32>>>,
}

sinter_model::choices! {
    /// What quality is measured by.
    pub enum MetricChoice: dyn Measure {
        "accuracy" => Accuracy(accuracy::Accuracy),
        "auc" => Auc(auc::Auc),
        "mse" => Mse(mse::Mse),
        "cosine" => Cosine(cosine::Cosine),
        "f1" => F1(f1::F1),
    }
    default Accuracy
}

impl MetricChoice {
    /// The metric of a task where none was chosen: the first of the list that fits and needs no choice.
    pub fn fitting(task: Task, labelled: bool) -> Self {
        Self::all().into_iter().find(|m| m.kind().fits(task, labelled)).unwrap_or_default()
    }
}
