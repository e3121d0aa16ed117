//! The metrics, one file each.
//!
//! To add one: a file with a documented struct of its options that implements [`Measure`], and one line in the list below. What several share lies in
//! files of its own: counts by class, scores of marks, sums over values, means over samples.

mod accuracy;
mod agreement;
mod auc;
mod average_precision;
mod balanced_accuracy;
mod cer;
mod command;
mod cosine;
mod counts;
mod dice;
mod eer;
mod f1;
mod iou;
mod kl;
mod mae;
mod max_error;
mod means;
mod mse;
mod pearson;
mod perplexity;
mod r2;
mod recall_at;
mod rmse;
mod scores;
mod si_sdr;
mod snr;
mod spearman;
mod sums;
mod text;
mod top_k;
mod word_accuracy;

use std::fmt::Debug;

use sinter_data::Task;
use tch::Tensor;

pub use command::{Command, Direction};
pub use scores::area_under_curve;

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

    /// Whether it tells nothing of the float model by itself, since it measures how far others are from it.
    fn is_distance(&self) -> bool {
        self.wants_reference()
    }

    /// Begins with nothing seen.
    fn start(&self) -> Box<dyn Tally>;
}

/// What a metric gathers, batch by batch: of each sample as much as its value over any of them needs.
pub trait Tally: Send + Sync {
    /// Takes in a batch.
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError>;

    /// Ends the gathering, before any value is asked for.
    fn close(&mut self) -> Result<(), TaskError> {
        Ok(())
    }

    /// The value where each sample counts as often as `times` says.
    fn value(&self, times: &[u32]) -> f64;

    /// How many numbers a value is computed from, where they are more than the samples.
    fn entries(&self) -> usize {
        0
    }

    /// Whether a value over some of the samples can be told.
    fn can_resample(&self) -> bool {
        true
    }

    /// What one sample comes to by itself; `None` where a metric is told of many only.
    fn alone(&self, _sample: usize) -> Option<Alone> {
        None
    }

    /// What else was seen on the way.
    fn beside(&self) -> Beside {
        Beside::default()
    }
}

/// One sample by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alone {
    /// The metric's value over it alone.
    pub value: f64,
    /// Its label and the class that was predicted, where it has one of each.
    pub classes: Option<(u32, u32)>,
}

impl Alone {
    /// A sample without a class.
    fn of(value: f64) -> Self {
        Self { value, classes: None }
    }
}

/// A batch as metrics see it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What the model is asked to do.
    pub task: Task,
    /// What went into the first input, `[n, ...]`.
    pub input: &'a Tensor,
    /// What came out, each `[n, ...]`; at least one.
    pub outputs: &'a [Tensor],
    /// As the task has its labels.
    pub labels: Option<&'a Tensor>,
    /// What the float model gives.
    pub references: Option<&'a [Tensor]>,
    /// Whether the float model gives probabilities and no logits; told where there is one.
    pub probabilities: bool,
}

impl<'a> Seen<'a> {
    /// The first output.
    fn output(&self) -> &'a Tensor {
        &self.outputs[0]
    }

    fn labels(&self, who: &'static str) -> Result<&'a Tensor, TaskError> {
        self.labels.ok_or(TaskError::NoLabels(who))
    }

    /// The number of samples.
    fn count(&self) -> i64 {
        self.output().size().first().copied().unwrap_or(1)
    }

    /// All outputs side by side, and those of the float model, which is like itself: `[n, values]` each.
    fn both(&self) -> Result<(Tensor, Tensor), TaskError> {
        let flat = |all: &[Tensor]| -> Result<Tensor, TaskError> {
            // A result without an axis of samples, such as a last state, is not theirs to be told apart by.
            let mine = all.iter().filter(|t| t.size().first() == Some(&self.count()) && t.is_floating_point());
            let rows = mine.map(|t| t.f_reshape([self.count(), -1])).collect::<Result<Vec<_>, _>>()?;
            Ok(if rows.is_empty() { rows_of(&all[0])? } else { Tensor::f_cat(&rows, 1)? })
        };
        Ok((flat(self.outputs)?, flat(self.references.unwrap_or(self.outputs))?))
    }
}

/// One row a sample.
fn rows_of(values: &Tensor) -> Result<Tensor, TaskError> {
    Ok(values.f_reshape([values.size().first().copied().unwrap_or(1), -1])?)
}

/// What else was seen while a metric gathered.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Share of samples whose label is among the five largest outputs.
    pub top5: Option<f64>,
    /// `confusion[label][predicted]`.
    pub confusion: Option<Vec<Vec<u32>>>,
    /// A 95 % interval that the metric tells itself.
    pub interval: Option<(f64, f64)>,
}

sinter_model::choices! {
    /// What quality is measured by.
    pub enum MetricChoice: dyn Measure {
        "auc" => Auc(auc::Auc),
        "perplexity" => Perplexity(perplexity::Perplexity),
        "accuracy" => Accuracy(accuracy::Accuracy),
        "mse" => Mse(mse::Mse),
        "rmse" => Rmse(rmse::Rmse),
        "cer" => Cer(cer::Cer),
        "recall-at" => RecallAt(recall_at::RecallAt),
        "cosine" => Cosine(cosine::Cosine),
        "f1" => F1(f1::F1),
        "balanced-accuracy" => BalancedAccuracy(balanced_accuracy::BalancedAccuracy),
        "top-k" => TopK(top_k::TopK),
        "average-precision" => AveragePrecision(average_precision::AveragePrecision),
        "eer" => Eer(eer::Eer),
        "iou" => Iou(iou::Iou),
        "dice" => Dice(dice::Dice),
        "mae" => Mae(mae::Mae),
        "r2" => R2(r2::R2),
        "pearson" => Pearson(pearson::Pearson),
        "spearman" => Spearman(spearman::Spearman),
        "si-sdr" => SiSdr(si_sdr::SiSdr),
        "word-accuracy" => WordAccuracy(word_accuracy::WordAccuracy),
        "snr" => Snr(snr::Snr),
        "kl" => Kl(kl::Kl),
        "agreement" => Agreement(agreement::Agreement),
        "max-error" => MaxError(max_error::MaxError),
        "command" => Command(command::Command),
    }
    default Accuracy
}

impl MetricChoice {
    /// Where a command of the user's runs.
    pub fn run_in(&mut self, folder: &std::path::Path) {
        if let Self::Command(command) = self {
            command.folder = folder.to_path_buf();
        }
    }

    /// Files that a value depends on beside the samples: scripts of a command.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        match self {
            Self::Command(command) => command.files(),
            _ => Vec::new(),
        }
    }

    /// The metric of a task where none was chosen: the first of the list that fits and needs no choice.
    pub fn fitting(task: Task, labelled: bool) -> Self {
        Self::all().into_iter().find(|m| m.kind().fits(task, labelled)).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The value of a metric on batches of `(output, labels)`, and on some of the samples.
    pub fn value(measure: &dyn Measure, task: Task, batches: &[(Tensor, Tensor)], times: Option<&[u32]>) -> f64 {
        let mut tally = measure.start();
        let mut n = 0;
        for (output, labels) in batches {
            let outputs = [output.shallow_clone()];
            let seen =
                Seen { task, input: output, outputs: &outputs, labels: Some(labels), references: None, probabilities: false };
            tally.add(&seen).unwrap();
            n += output.size()[0] as usize;
        }
        tally.close().unwrap();
        tally.value(times.unwrap_or(&vec![1; n]))
    }

    /// A sample that counts twice is as good as the sample twice.
    pub fn twice_is_two(measure: &dyn Measure, task: Task, output: &Tensor, labels: &Tensor) {
        let n = output.size()[0];
        let times: Vec<u32> = (0..n).map(|i| if i % 3 == 0 { 2 } else { u32::from(i % 3 == 1) }).collect();
        let picked: Vec<i64> = times.iter().enumerate().flat_map(|(i, &t)| vec![i as i64; t as usize]).collect();
        let picked = Tensor::from_slice(&picked);
        let (o, l) = (output.index_select(0, &picked), labels.index_select(0, &picked));
        let a = value(measure, task, &[(output.shallow_clone(), labels.shallow_clone())], Some(&times));
        let b = value(measure, task, &[(o, l)], None);
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }

    /// t = [1.5, -0.5, 2, 7, 0.25, 3, 3], p = [1, 0, 2, 8, 0.5, 2.5, 3.5]: what a library says of these, in one batch or two.
    pub fn regression(measure: &dyn Measure, wanted: f64) {
        let output = Tensor::from_slice(&[1.0f32, 0.0, 2.0, 8.0, 0.5, 2.5, 3.5]).reshape([7, 1]);
        let labels = Tensor::from_slice(&[1.5f32, -0.5, 2.0, 7.0, 0.25, 3.0, 3.0]);
        let task = Task::Regress(sinter_data::Regress::default());
        let parts = [(0, 4), (4, 3)].map(|(from, n)| (output.narrow(0, from, n), labels.narrow(0, from, n)));
        let found = value(measure, task, &parts, None);
        assert!((found - wanted).abs() < 1e-6, "{found}");
        twice_is_two(measure, task, &output, &labels);
    }

    /// s = [0.1, 0.4, 0.35, 0.8, 0.4, 0.2, 0.9, 0.4], y = [0, 0, 1, 1, 1, 0, 1, 0]: what a library says of these scores.
    pub fn scored(measure: &dyn Measure, wanted: f64) {
        let output = Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.8, 0.4, 0.2, 0.9, 0.4]).reshape([4, 2]);
        let marks = Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0]).reshape([4, 2]);
        let task = Task::MultiLabel(sinter_data::MultiLabel::default());
        let found = value(measure, task, &[(output.shallow_clone(), marks.shallow_clone())], None);
        assert!((found - wanted).abs() < 1e-9, "{found}");
        twice_is_two(measure, task, &output, &marks);
    }

    /// Two words of which one is right, the other one edit away, five characters in all.
    pub fn transcribed(measure: &dyn Measure, wanted: f64) {
        // The best at each step: 1 1 0 2 and 2 0 0 3, of four classes, the first of which is the blank.
        let best = Tensor::from_slice(&[1i64, 1, 0, 2, 2, 0, 0, 3]).reshape([2, 4]);
        let output = best.one_hot(4).to_kind(tch::Kind::Float);
        let labels = Tensor::from_slice(&[1i64, 2, -1, 2, 1, 3]).reshape([2, 3]);
        let task = Task::Transcribe(sinter_data::Transcribe::default());
        let found = value(measure, task, &[(output.shallow_clone(), labels.shallow_clone())], None);
        assert!((found - wanted).abs() < 1e-9, "{found}");
        twice_is_two(measure, task, &output, &labels);
    }

    /// Two samples beside those of the float model, all outputs of `[2, values]`.
    pub fn beside_float(measure: &dyn Measure, outputs: &[&[f32]], references: &[&[f32]]) -> Box<dyn Tally> {
        let tensors = |all: &[&[f32]]| all.iter().map(|v| Tensor::from_slice(v).reshape([2, -1])).collect::<Vec<_>>();
        let (outputs, references) = (tensors(outputs), tensors(references));
        let mut tally = measure.start();
        let task = Task::default();
        let seen = Seen {
            task,
            input: &outputs[0],
            outputs: &outputs,
            labels: None,
            references: Some(&references),
            probabilities: false,
        };
        tally.add(&seen).unwrap();
        tally
    }

    #[test]
    fn every_task_has_a_metric() {
        for task in Task::all() {
            for labelled in [true, false] {
                let metric = MetricChoice::fitting(task, labelled);
                assert!(metric.kind().fits(task, labelled), "{task:?} {labelled}: {metric:?}");
            }
        }
    }
}
