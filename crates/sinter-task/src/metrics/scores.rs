//! Scores of what each hold or do not: anomalies, labels, frames of speech.

use sinter_data::Task;
use sinter_model::to_f32s;
use tch::Kind;

use super::{Seen, Tally, rows_of};
use crate::error::TaskError;

/// The default threshold of probabilities.
pub(super) fn half() -> f64 {
    0.5
}

/// Whether a task has scores.
pub(super) fn fits(task: Task, labelled: bool) -> bool {
    matches!(task, Task::Reconstruct(_) | Task::MultiLabel(_)) && labelled
}

/// A score among all, from the smallest on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored {
    pub score: f32,
    /// Whether the label holds.
    pub holds: bool,
    /// The sample.
    sample: u32,
}

/// From scores in their order, each with how often it counts, to a value.
pub(super) type Value = fn(&mut dyn Iterator<Item = (Scored, f64)>) -> f64;

/// Scores over batches.
pub(super) struct Scores {
    who: &'static str,
    value: Value,
    all: Vec<Scored>,
    samples: u32,
}

impl Scores {
    /// With nothing seen.
    pub fn start(who: &'static str, value: Value) -> Box<dyn Tally> {
        Box::new(Self { who, value, all: vec![], samples: 0 })
    }
}

impl Tally for Scores {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let labels = seen.labels(self.who)?;
        let scores = match seen.task {
            Task::Reconstruct(_) => super::mse::row_errors(seen)?,
            _ => seen.output().shallow_clone(),
        };
        let marks = to_f32s(&rows_of(&labels.f_to_kind(Kind::Float)?)?)?;
        let each = marks.len() / (seen.count().max(1) as usize);
        for (at, (score, mark)) in to_f32s(&rows_of(&scores)?)?.into_iter().zip(marks).enumerate() {
            self.all.push(Scored { score, holds: mark > 0.5, sample: self.samples + (at / each.max(1)) as u32 });
        }
        self.samples += seen.count().max(0) as u32;
        Ok(())
    }

    fn close(&mut self) -> Result<(), TaskError> {
        self.all.sort_by(|a, b| a.score.total_cmp(&b.score));
        Ok(())
    }

    fn entries(&self) -> usize {
        self.all.len()
    }

    fn value(&self, times: &[u32]) -> f64 {
        let often = |s: &Scored| f64::from(times.get(s.sample as usize).copied().unwrap_or(0));
        (self.value)(&mut self.all.iter().map(|s| (*s, often(s))).filter(|(_, times)| *times > 0.0))
    }
}

/// Groups of equal scores, from the smallest on: how many of each hold, and how many do not. A NaN equals nothing, itself included.
pub(super) fn groups(scores: &mut dyn Iterator<Item = (Scored, f64)>) -> Vec<(f32, f64, f64)> {
    let mut groups: Vec<(f32, f64, f64)> = Vec::new();
    for (scored, times) in scores {
        let (yes, no) = if scored.holds { (times, 0.0) } else { (0.0, times) };
        match groups.last_mut().filter(|g| g.0 == scored.score) {
            Some(group) => {
                group.1 += yes;
                group.2 += no;
            }
            None => groups.push((scored.score, yes, no)),
        }
    }
    groups
}

/// The probability that a positive sample scores above a negative one, ties counted half (Hanley and McNeil, 1982). A half when either kind is
/// absent.
pub fn area_under_curve(scores: &[f32], positive: &[i64]) -> f64 {
    let all = scores.iter().zip(positive).map(|(&score, &p)| Scored { score, holds: p != 0, sample: 0 });
    let mut all: Vec<Scored> = all.collect();
    all.sort_by(|a, b| a.score.total_cmp(&b.score));
    area(&mut all.into_iter().map(|s| (s, 1.0)))
}

/// The same of scores in their order.
pub(super) fn area(scores: &mut dyn Iterator<Item = (Scored, f64)>) -> f64 {
    let (mut below, mut wins, mut positive) = (0.0, 0.0, 0.0);
    for (_, yes, no) in groups(scores) {
        wins += yes * (below + no / 2.0);
        below += no;
        positive += yes;
    }
    if positive == 0.0 || below == 0.0 { 0.5 } else { wins / (positive * below) }
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
