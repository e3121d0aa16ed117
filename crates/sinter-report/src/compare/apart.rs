//! The samples that recipes answer differently.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::Serialize;

use crate::samples::Samples;

/// Samples that travel with a page: those on which answers differ most.
const MOST: usize = 1_000;

/// How far recipes answer the same samples differently. All of them saw the same samples in the same order.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Apart {
    /// Samples of the test split.
    pub of: usize,
    /// Names of the classes, where a sample has one; else samples have a value each.
    pub classes: Vec<String>,
    /// For each row and each other: samples that are answered differently, those that only the first answers rightly, those that only the second does.
    pub counts: Vec<Vec<[u32; 3]>>,
    /// Samples on which rows differ, by their place in the split: those first on which most do.
    pub samples: Vec<usize>,
    /// Of each such sample the label.
    pub labels: Vec<Option<u32>>,
    /// Of each row, what it makes of each such sample: the class, or the value.
    pub answers: Vec<Vec<Option<f64>>>,
}

impl Apart {
    /// `None` where some row has no samples, or others than the first.
    pub(super) fn of(all: &[Option<Samples>], classes: &[String]) -> Option<Self> {
        let all: Vec<&Samples> = all.iter().map(Option::as_ref).collect::<Option<_>>()?;
        let of = all.first()?.result.len();
        let label = |s: &Samples, at: usize| s.result[at].and_then(|a| a.classes).map(|(label, _)| label);
        let same = |s: &&Samples| s.result.len() == of && (0..of).all(|at| label(s, at) == label(all[0], at));
        if all.len() < 2 || !all.iter().all(same) {
            return None;
        }
        let by_class = (0..of).any(|at| label(all[0], at).is_some());
        let answer = |s: &Samples, at: usize| match s.result[at] {
            Some(a) if by_class => a.classes.map(|(_, said)| f64::from(said)),
            a => a.map(|a| a.value),
        };
        let answers: Vec<Vec<Option<f64>>> = all.iter().map(|s| (0..of).map(|at| answer(s, at)).collect()).collect();
        let labels: Vec<Option<u32>> = (0..of).map(|at| label(all[0], at)).collect();
        let right = |answer: Option<f64>, label: Option<u32>| answer.is_some() && answer == label.map(f64::from);
        let count = |a: usize, b: usize| {
            let mut counts = [0u32; 3];
            for ((&a, &b), &label) in answers[a].iter().zip(&answers[b]).zip(&labels) {
                counts[0] += u32::from(a != b);
                counts[1] += u32::from(right(a, label) && !right(b, label));
                counts[2] += u32::from(right(b, label) && !right(a, label));
            }
            counts
        };
        // Each pair once: the other way round the last two change places.
        let half: Vec<Vec<[u32; 3]>> = (0..all.len()).into_par_iter().map(|a| (0..a).map(|b| count(a, b)).collect()).collect();
        let pair = |a: usize, b: usize| match a.cmp(&b) {
            Ordering::Greater => half[a][b],
            Ordering::Equal => [0; 3],
            Ordering::Less => [half[b][a][0], half[b][a][2], half[b][a][1]],
        };
        let counts = (0..all.len()).map(|a| (0..all.len()).map(|b| pair(a, b)).collect()).collect();
        let spread = |at: usize| {
            let here = answers.iter().filter_map(|row| row[at]);
            match by_class {
                // Rows that do not say what the first does.
                true => here.filter(|a| Some(*a) != answers[0][at]).count() as f64,
                false => {
                    let (low, high) = here.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
                    (high - low).max(0.0)
                }
            }
        };
        let mut ranked: Vec<(usize, f64)> = (0..of).map(|at| (at, spread(at))).filter(|(_, s)| *s > 0.0).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let samples: Vec<usize> = ranked.into_iter().take(MOST).map(|(at, _)| at).collect();
        Some(Self {
            of,
            classes: if by_class { classes.to_vec() } else { vec![] },
            counts,
            labels: samples.iter().map(|&at| labels[at]).collect(),
            answers: answers.iter().map(|row| samples.iter().map(|&at| row[at]).collect()).collect(),
            samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_task::Alone;

    fn samples(classes: &[(u32, u32)]) -> Option<Samples> {
        let result = classes.iter().map(|&c| Some(Alone { value: f64::from(u8::from(c.0 == c.1)), classes: Some(c) })).collect();
        Some(Samples { float: vec![], result })
    }

    #[test]
    fn answers_are_counted_by_pairs() {
        let first = samples(&[(0, 0), (1, 1), (2, 2), (0, 1)]);
        let second = samples(&[(0, 0), (1, 2), (2, 2), (0, 2)]);
        let third = samples(&[(0, 1), (1, 1), (2, 2), (0, 0)]);
        let apart = Apart::of(&[first.clone(), second.clone(), third], &["a".into(), "b".into(), "c".into()]).unwrap();
        assert_eq!(apart.counts[0][1], [2, 1, 0]);
        assert_eq!(apart.counts[0][2], [2, 1, 1]);
        assert_eq!(apart.counts[2][0], [2, 1, 1]);
        assert_eq!(apart.counts[1][1], [0, 0, 0]);
        assert_eq!(apart.samples, [3, 0, 1]);
        assert_eq!(apart.labels, [Some(0), Some(0), Some(1)]);
        assert_eq!(apart.answers[1], [Some(2.0), Some(0.0), Some(2.0)]);
        // Others than the first's, or none.
        assert_eq!(Apart::of(&[first.clone(), samples(&[(0, 0)])], &[]), None);
        assert_eq!(Apart::of(&[first.clone(), samples(&[(1, 0), (1, 1), (2, 2), (0, 1)])], &[]), None);
        assert_eq!(Apart::of(&[first, None], &[]), None);
    }

    #[test]
    fn values_differ_by_their_spread() {
        let of = |values: &[f64]| {
            Some(Samples { float: vec![], result: values.iter().map(|&value| Some(Alone { value, classes: None })).collect() })
        };
        let apart = Apart::of(&[of(&[0.1, 0.5, 0.3]), of(&[0.1, 0.2, 0.4])], &["a".into()]).unwrap();
        assert_eq!((apart.samples, apart.classes.len()), (vec![1, 2], 0));
        assert_eq!(apart.counts[0][1][0], 2);
    }
}
