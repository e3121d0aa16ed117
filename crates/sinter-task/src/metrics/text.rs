//! What a model transcribed, beside what was said.

use sinter_data::Task;
use sinter_model::to_i64s;

use super::{Alone, Seen, Tally};
use crate::error::TaskError;

/// Of one sample: edits from what came out to what was said, and how long that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edits {
    pub edits: usize,
    pub length: usize,
}

/// From the edits of samples, each with how often it counts, to a value.
pub(super) type Value = fn(&mut dyn Iterator<Item = (Edits, f64)>) -> f64;

/// Edits over batches.
pub(super) struct Transcripts {
    who: &'static str,
    each: Vec<Edits>,
    value: Value,
}

impl Transcripts {
    /// With nothing seen.
    pub fn start(who: &'static str, value: Value) -> Box<dyn Tally> {
        Box::new(Self { who, each: vec![], value })
    }
}

impl Tally for Transcripts {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let labels = seen.labels(self.who)?;
        let Task::Transcribe(options) = seen.task else { return Err(TaskError::NoLabels(self.who)) };
        let (steps, most) = (seen.output().size()[1] as usize, labels.size()[1] as usize);
        let best = to_i64s(&seen.output().f_argmax(-1, false)?.f_reshape([-1])?)?;
        let labels = to_i64s(&labels.f_reshape([-1])?)?;
        for (best, label) in best.chunks_exact(steps.max(1)).zip(labels.chunks_exact(most.max(1))) {
            let said: Vec<i64> = label.iter().copied().take_while(|l| *l >= 0).collect();
            self.each.push(Edits { edits: distance(&greedy(best, options.blank), &said), length: said.len() });
        }
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        (self.value)(&mut self.each.iter().zip(times).map(|(e, t)| (*e, f64::from(*t))))
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        self.each.get(sample).map(|e| Alone::of((self.value)(&mut std::iter::once((*e, 1.0)))))
    }
}

/// The labels of the best class at each step: repetitions are one, and the blank parts them (Graves et al., 2006).
fn greedy(best: &[i64], blank: i64) -> Vec<i64> {
    let before = std::iter::once(&blank).chain(best);
    best.iter().zip(before).filter(|(now, before)| **now != blank && now != before).map(|(now, _)| *now).collect()
}

/// The fewest insertions, deletions and substitutions from one to the other (Levenshtein, 1966).
fn distance(from: &[i64], to: &[i64]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let best = (corner + usize::from(a != b)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_collapse_and_edits_count() {
        assert_eq!(greedy(&[0, 3, 3, 0, 3, 5, 5, 0], 0), [3, 3, 5]);
        assert_eq!(greedy(&[9, 9, 1, 1, 9, 1], 9), [1, 1]);
        let text = |s: &str| s.bytes().map(i64::from).collect::<Vec<_>>();
        for (a, b, wanted) in [("kitten", "sitting", 3), ("flaw", "lawn", 2), ("", "abc", 3), ("abc", "", 3), ("same", "same", 0)]
        {
            assert_eq!(distance(&text(a), &text(b)), wanted, "{a} {b}");
        }
    }
}
