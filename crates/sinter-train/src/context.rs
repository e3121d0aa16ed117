//! All that a stage may use while it runs.

use sinter_data::{Dataset, Split};
use sinter_estimate::Target;
use sinter_model::Model;
use sinter_task::{Measurement, MetricChoice, evaluate};

use crate::checkpoint::{Checkpoints, NoCheckpoints};
use crate::error::StageError;
use crate::event::{Event, Events, Probe};
use crate::teacher_ref::TeacherRef;

/// What stages remember from run to run, for work that does not depend on all of their configuration. It belongs to the model that
/// came into the stage.
pub trait Memory {
    /// What was kept under this name.
    fn recall(&self, what: &str) -> Option<String>;
    /// Keeps a text. A memory that is full or read-only keeps nothing.
    fn keep(&self, what: &str, text: &str);
}

/// A memory that holds nothing.
#[derive(Debug)]
pub struct NoMemory;

impl Memory for NoMemory {
    fn recall(&self, _what: &str) -> Option<String> {
        None
    }
    fn keep(&self, _what: &str, _text: &str) {}
}

fn no_teacher(wanted: &TeacherRef) -> Result<Model, StageError> {
    Err(StageError::config("teacher", format!("there is no teacher `{wanted}` here")))
}

/// All that a stage may use.
pub struct Context<'a> {
    /// The samples.
    pub data: &'a Dataset,
    /// What quality is measured by; `None` for what fits the task.
    pub metric: Option<&'a MetricChoice>,
    /// What the model is meant for.
    pub target: &'a Target,
    /// This stage's own seed: the same run gives it the same one.
    pub seed: u64,
    /// Where events go.
    pub events: Events<'a>,
    /// Finds a teacher that the configuration names.
    pub teacher: &'a dyn Fn(&TeacherRef) -> Result<Model, StageError>,
    /// What is remembered of the incoming model.
    pub memory: &'a dyn Memory,
    /// Where work that is under way is kept.
    pub checkpoints: &'a dyn Checkpoints,
}

impl<'a> Context<'a> {
    /// A context of a stage by itself: seed 1, nobody listens, nobody teaches, nothing is remembered or kept.
    pub fn alone(data: &'a Dataset, target: &'a Target) -> Self {
        let (teacher, memory, checkpoints) = (&no_teacher, &NoMemory, &NoCheckpoints);
        Self { data, metric: None, target, seed: 1, events: &|_| {}, teacher, memory, checkpoints }
    }

    /// Measures a model on some samples by the pipeline's metric, or by what fits the samples where that does not: training samples may have no
    /// labels though those of the test have. `reference` is the float model.
    pub fn evaluate(&self, model: &Model, split: &Split, reference: Option<&Model>) -> Result<Measurement, StageError> {
        let metric = self.metric.filter(|m| m.kind().fits(self.data.task, split.is_labelled()));
        Ok(evaluate(model, split, self.data.task, metric, reference)?)
    }

    /// What choices are judged by: at most `count` samples of the validation split where there is one, else of the training split.
    pub fn judging_samples(&self, count: usize) -> Split {
        let split = if self.data.validation.is_empty() { &self.data.train } else { &self.data.validation };
        split.sample(count, self.seed)
    }

    /// Tells the user something that stops nothing.
    pub fn note(&self, text: impl Into<String>) {
        (self.events)(Event::Note { text: text.into() });
    }

    /// Tells what calibration saw of a value.
    pub fn range(&self, value: &str, (low, high): (f32, f32)) {
        (self.events)(Event::Range { value: value.to_string(), low: low.into(), high: high.into() });
    }

    /// Tells what quality is lost when a layer alone is compressed.
    pub fn sensitivity(&self, layer: &str, probe: Probe, at: f64, lost: f64) {
        (self.events)(Event::Sensitivity { layer: layer.to_string(), probe, at, lost });
    }

    /// Where work below the stages tells how far it is.
    pub fn reporter(&self) -> impl Fn(&str, usize, usize) + '_ {
        |what, done, total| self.progress(what, done, total)
    }

    /// The items one after the other; tells after each how far the work is, to the end.
    pub fn each<'c, T>(&'c self, what: &'c str, items: &'c [T]) -> impl Iterator<Item = &'c T> + 'c {
        let done = move |count: usize| {
            if count > 0 {
                self.progress(what, count, items.len());
            }
        };
        let end = std::iter::from_fn(move || {
            done(items.len());
            None
        });
        items.iter().enumerate().inspect(move |(i, _)| done(*i)).map(|(_, item)| item).chain(end)
    }

    /// Tells how far a piece of work is.
    pub fn progress(&self, what: &str, done: usize, total: usize) {
        (self.events)(Event::Progress { what: what.to_string(), done, total });
    }
}
