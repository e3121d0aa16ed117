//! The area under the ROC curve of the reconstruction error.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use sinter_model::{to_f32s, to_i64s};

use super::mse::row_errors;
use super::{Measure, Outcome, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The area under the ROC curve of the reconstruction error as an anomaly score (Hanley and McNeil, 1982). For autoencoders with labels that
/// mark anomalies. Keeps one number a sample.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auc {}

impl Measure for Auc {
    fn metric(&self) -> Metric {
        Metric::bounded("AUC", 0.0, 1.0)
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        task == Task::Reconstruct && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Scores::default())
    }
}

#[derive(Default)]
struct Scores {
    scores: Vec<f32>,
    positive: Vec<i64>,
}

impl Tally for Scores {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        self.scores.extend(to_f32s(&row_errors(seen)?)?);
        self.positive.extend(to_i64s(seen.labels("AUC")?)?);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Outcome {
        Outcome { value: area_under_curve(&self.scores, &self.positive), ..Outcome::default() }
    }
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
            for (s, _) in scores.iter().zip(&marks).filter(|(_, m)| **m == 1) {
                for (t, _) in scores.iter().zip(&marks).filter(|(_, n)| **n == 0) {
                    pairs += 1.0;
                    wins += if s > t { 1.0 } else if s == t { 0.5 } else { 0.0 };
                }
            }
            let expected = if pairs == 0.0 { 0.5 } else { wins / pairs };
            prop_assert!((area_under_curve(&scores, &marks) - expected).abs() < 1e-9);
        }
    }
}
