//! How good a model is on a split.

use serde::{Deserialize, Serialize};
use sinter_data::{Order, Split, Task};
use sinter_exec::Runner;
use sinter_model::{Mode, Model, to_f32s, to_i64s};
use tch::{Kind, Tensor};

use crate::stage::StageError;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Share of samples whose largest output is the label.
    Accuracy,
    /// Area under the ROC curve of the reconstruction error as an anomaly score.
    Auc,
    /// Mean squared error of the reconstruction.
    Mse,
    /// Mean cosine between the outputs and those of the float model: where there are no labels.
    Cosine,
}

impl Metric {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Auc => "AUC",
            Self::Mse => "MSE",
            Self::Cosine => "cosine",
        }
    }

    /// Whether larger is better.
    pub fn higher_is_better(self) -> bool {
        self != Self::Mse
    }

    /// A value for people: shares in percent.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Accuracy => format!("{:.2} %", value * 100.0),
            _ => format!("{value:.4}"),
        }
    }
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    pub metric: Metric,
    pub value: f64,
    /// Share of samples whose label is among the five largest outputs; with more than five classes.
    pub top5: Option<f64>,
    pub samples: usize,
    /// `confusion[label][predicted]`, for up to 100 classes.
    pub confusion: Option<Vec<Vec<u32>>>,
}

impl Quality {
    /// How much worse `now` is, in the metric's unit; below zero when it is better.
    pub fn lost(&self, now: &Quality) -> f64 {
        if self.metric.higher_is_better() { self.value - now.value } else { now.value - self.value }
    }
}

const BATCH: usize = 256;

/// Measures a model. `reference` is the float model, whose outputs stand in where there are no labels.
pub fn evaluate(model: &Model, split: &Split, task: Task, reference: Option<&Model>) -> Result<Quality, StageError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    evaluate_with(&mut |x| first_output(&runner, x), split, task, reference)
}

fn first_output(runner: &Runner, x: &Tensor) -> Result<Tensor, StageError> {
    let outputs = tch::no_grad(|| runner.run(&[x.shallow_clone()], Mode::Predict))?;
    outputs.into_iter().next().ok_or_else(|| StageError::config("", "the model has no output"))
}

/// Measures anything that turns samples into outputs: our interpreter, or a real runtime on an exported file.
pub fn evaluate_with(
    predict: &mut dyn FnMut(&Tensor) -> Result<Tensor, StageError>,
    split: &Split,
    task: Task,
    reference: Option<&Model>,
) -> Result<Quality, StageError> {
    let kind = match (task, split.is_labelled()) {
        (Task::Classify, true) => Metric::Accuracy,
        (Task::Reconstruct, true) => Metric::Auc,
        (Task::Reconstruct, false) => Metric::Mse,
        (Task::Classify, false) => Metric::Cosine,
    };
    let reference = match (kind, reference) {
        (Metric::Cosine, Some(model)) => Some(tch::no_grad(|| Runner::new(model))?),
        _ => None,
    };
    let (mut hits, mut hits5, mut samples, mut total) = (0i64, 0i64, 0usize, 0f64);
    let (mut scores, mut marks) = (Vec::new(), Vec::new());
    let mut confusion: Option<Vec<Vec<u32>>> = None;
    for batch in split.batches(BATCH, Order::Stored) {
        let batch = batch?;
        let n = batch.x.size()[0] as usize;
        let output = predict(&batch.x)?.f_reshape([n as i64, -1])?;
        samples += n;
        match (kind, &batch.y) {
            (Metric::Accuracy, Some(y)) => {
                let classes = output.size()[1];
                let predicted = to_i64s(&output.f_argmax(1, false)?)?;
                let labels = to_i64s(y)?;
                if classes > 5 {
                    let (_, top) = output.f_topk(5, 1, true, false)?;
                    hits5 += top.f_eq_tensor(&y.f_unsqueeze(1)?)?.f_any_dim(1, false)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
                }
                let table = confusion.get_or_insert_with(|| vec![vec![0; classes as usize]; classes as usize]);
                for (&p, &l) in predicted.iter().zip(&labels) {
                    hits += (p == l) as i64;
                    if let Some(cell) = table.get_mut(l as usize).and_then(|row| row.get_mut(p as usize)) {
                        *cell += 1;
                    }
                }
            }
            (Metric::Auc | Metric::Mse, y) => {
                let error = output.f_sub(&batch.x.f_reshape([n as i64, -1])?)?.f_square()?.f_mean_dim(1, false, Kind::Float)?;
                total += error.f_sum(Kind::Double)?.f_double_value(&[])?;
                scores.extend(to_f32s(&error)?);
                if let Some(y) = y {
                    marks.extend(to_i64s(y)?);
                }
            }
            _ => {
                let other = match &reference {
                    Some(runner) => first_output(runner, &batch.x)?.f_reshape([n as i64, -1])?,
                    None => output.shallow_clone(),
                };
                let cosine = Tensor::f_cosine_similarity(&output, &other, 1, 1e-8)?;
                total += cosine.f_sum(Kind::Double)?.f_double_value(&[])?;
            }
        }
    }
    if samples == 0 {
        return Err(StageError::config("", "there is no sample to measure on"));
    }
    let count = samples as f64;
    let value = match kind {
        Metric::Accuracy => hits as f64 / count,
        Metric::Auc => area_under_curve(&scores, &marks),
        _ => total / count,
    };
    let wide = confusion.as_ref().is_some_and(|c| c.len() > 5);
    let top5 = (kind == Metric::Accuracy && wide).then_some(hits5 as f64 / count);
    Ok(Quality { metric: kind, value, top5, samples, confusion: confusion.filter(|c| c.len() <= 100) })
}

/// The probability that a positive sample scores above a negative one, ties counted half (Hanley and McNeil, 1982). A half when
/// either kind is absent.
pub fn area_under_curve(scores: &[f32], positive: &[i64]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len().min(positive.len())).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut ranks, mut start) = (0f64, 0);
    while start < order.len() {
        // A NaN equals nothing, itself included.
        let mut end = start + 1;
        while end < order.len() && scores[order[end]] == scores[order[start]] {
            end += 1;
        }
        let rank = (start + end + 1) as f64 / 2.0;
        ranks += rank * order[start..end].iter().filter(|&&i| positive[i] != 0).count() as f64;
        start = end;
    }
    let p = order.iter().filter(|&&i| positive[i] != 0).count() as f64;
    let n = order.len() as f64 - p;
    if p == 0.0 || n == 0.0 { 0.5 } else { (ranks - p * (p + 1.0) / 2.0) / (p * n) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the definition: compare every pair.
        #[test]
        fn auc_counts_pairs(data in proptest::collection::vec((0u8..6, 0i64..2), 2..40)) {
            let scores: Vec<f32> = data.iter().map(|d| d.0 as f32).collect();
            let marks: Vec<i64> = data.iter().map(|d| d.1).collect();
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (s, m) in scores.iter().zip(&marks).filter(|(_, m)| **m == 1) {
                for (t, n) in scores.iter().zip(&marks).filter(|(_, n)| **n == 0) {
                    let _ = (m, n);
                    pairs += 1.0;
                    wins += if s > t { 1.0 } else if s == t { 0.5 } else { 0.0 };
                }
            }
            let expected = if pairs == 0.0 { 0.5 } else { wins / pairs };
            prop_assert!((area_under_curve(&scores, &marks) - expected).abs() < 1e-9);
        }
    }
}
