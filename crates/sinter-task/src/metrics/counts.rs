//! Hits and misses of each class, which accuracy, F1, IoU and their kin are computed from.

use sinter_data::{NO_LABEL, Task};
use sinter_model::{to_f32s, to_i64s};
use tch::{Kind, Tensor};

use super::{Alone, Beside, Seen, Tally, rows_of};
use crate::error::TaskError;
use crate::tasks::class_axis;

/// Of one class in one sample, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Count {
    /// Positions of the class that were found.
    pub hits: f64,
    /// Positions of the class.
    pub labelled: f64,
    /// Positions taken for it.
    pub predicted: f64,
}

/// From the counts of all classes to a value.
pub(super) type Value = fn(&[Count]) -> f64;

/// Tables of more classes are too large to be told.
const MOST_CLASSES: usize = 100;

/// Counts over batches, of each sample by itself.
pub(super) struct Counts {
    who: &'static str,
    value: Value,
    /// From where on an output says that a label holds.
    threshold: f64,
    /// Of labels that each hold or do not, whether only those that hold are counted.
    positives: bool,
    marks: bool,
    /// `table[label][predicted]`.
    table: Vec<Vec<u32>>,
    /// Of each sample one after the other: a class, and its hits, labels and predictions.
    entries: Vec<(u32, [u32; 3])>,
    /// Where each sample's entries end.
    ends: Vec<usize>,
    /// Samples whose label is among the five largest outputs, with more than five classes and one label a sample.
    among_five: Option<i64>,
}

impl Counts {
    /// With nothing seen.
    pub fn start(who: &'static str, threshold: f64, value: Value) -> Box<Self> {
        let (table, entries, ends) = (vec![], vec![], vec![]);
        Box::new(Self { who, value, threshold, positives: false, marks: false, table, entries, ends, among_five: None })
    }

    /// With labels that each hold or do not, only those that hold are a class.
    pub fn of_positives(mut self: Box<Self>) -> Box<dyn Tally> {
        self.positives = true;
        self
    }

    /// The number of classes, and what was predicted and labelled at each position of a batch.
    fn predictions(&mut self, seen: &Seen) -> Result<(usize, Vec<i64>, Vec<i64>), TaskError> {
        let (output, labels) = (seen.output(), seen.labels(self.who)?);
        if matches!(seen.task, Task::MultiLabel(_)) {
            self.marks = true;
            let predicted = to_i64s(&output.f_reshape([-1])?.f_gt(self.threshold)?.f_to_kind(Kind::Int64)?)?;
            let marks = to_f32s(&labels.f_reshape([-1])?.f_to_kind(Kind::Float)?)?;
            return Ok((2, predicted, marks.into_iter().map(|m| i64::from(m > 0.5)).collect()));
        }
        let axis = match class_axis(&output.size(), &labels.size()) {
            Some(axis) => axis,
            None if labels.dim() == 1 => return self.flat(&rows_of(output)?, labels),
            None => {
                let (o, l) = (output.size(), labels.size());
                return Err(TaskError::Runtime(format!("an output of {o:?} has no classes for labels of {l:?}")));
            }
        };
        let classes = output.size()[axis];
        let rows = output.f_movedim_int(axis as i64, -1)?.f_reshape([-1, classes])?;
        if labels.dim() == 1 {
            return self.flat(&rows, labels);
        }
        Ok((classes as usize, to_i64s(&rows.f_argmax(1, false)?)?, to_i64s(&labels.f_reshape([-1])?)?))
    }

    /// One class a sample, from scores `[n, classes]`.
    fn flat(&mut self, scores: &Tensor, labels: &Tensor) -> Result<(usize, Vec<i64>, Vec<i64>), TaskError> {
        let classes = scores.size()[1] as usize;
        if classes > 5 {
            let (_, top) = scores.f_topk(5, 1, true, false)?;
            let hit = top.f_eq_tensor(&labels.f_unsqueeze(1)?)?.f_any_dim(1, false)?;
            *self.among_five.get_or_insert(0) += hit.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        }
        Ok((classes, to_i64s(&scores.f_argmax(1, false)?)?, to_i64s(labels)?))
    }

    /// Counts of each class, where samples count as often as `times` says.
    fn totals(&self, times: &[u32]) -> Vec<Count> {
        let most = self.entries.iter().map(|(class, _)| *class as usize + 1).max().unwrap_or(0);
        let mut totals = vec![Count::default(); most.max(self.table.len())];
        let mut from = 0;
        for (&end, &t) in self.ends.iter().zip(times) {
            for (class, [hits, labelled, predicted]) in &self.entries[from..end] {
                if let Some(total) = totals.get_mut(*class as usize).filter(|_| t > 0) {
                    total.hits += f64::from(*hits) * f64::from(t);
                    total.labelled += f64::from(*labelled) * f64::from(t);
                    total.predicted += f64::from(*predicted) * f64::from(t);
                }
            }
            from = end;
        }
        totals
    }
}

impl Tally for Counts {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let (classes, predicted, labels) = self.predictions(seen)?;
        if self.table.is_empty() && classes <= MOST_CLASSES {
            self.table = vec![vec![0; classes]; classes];
        }
        let each = predicted.len() / (seen.count().max(1) as usize);
        for (p, l) in predicted.chunks(each.max(1)).zip(labels.chunks(each.max(1))) {
            let mut of = std::collections::BTreeMap::<u32, [u32; 3]>::new();
            for (&p, &l) in p.iter().zip(l).filter(|(_, l)| **l != NO_LABEL) {
                let hit = u32::from(p == l);
                let (label, guess) = (l.max(0) as u32, p as u32);
                let counts = of.entry(label).or_default();
                counts[0] += hit;
                counts[1] += 1;
                of.entry(guess).or_default()[2] += 1;
                if let Some(cell) = self.table.get_mut(label as usize).and_then(|row| row.get_mut(guess as usize)) {
                    *cell += 1;
                }
            }
            self.entries.extend(of);
            self.ends.push(self.entries.len());
        }
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        let totals = self.totals(times);
        (self.value)(if self.positives && self.marks { totals.get(1..).unwrap_or_default() } else { &totals })
    }

    fn entries(&self) -> usize {
        self.entries.len()
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        let end = *self.ends.get(sample)?;
        let of = &self.entries[sample.checked_sub(1).map_or(0, |before| self.ends[before])..end];
        let counts = of.iter().map(|(_, [hits, labelled, predicted])| Count {
            hits: f64::from(*hits),
            labelled: f64::from(*labelled),
            predicted: f64::from(*predicted),
        });
        let value = (self.value)(&counts.collect::<Vec<_>>());
        // One position: one label, and one prediction.
        let of_one = |which: usize| of.iter().find(|(_, c)| c[which] == 1).map(|(class, _)| *class);
        let single = !self.marks && of.iter().map(|(_, c)| c[1]).sum::<u32>() == 1;
        Some(Alone { value, classes: of_one(1).zip(of_one(2)).filter(|_| single) })
    }

    fn beside(&self) -> Beside {
        Beside {
            top5: self.among_five.map(|hits| hits as f64 / self.ends.len().max(1) as f64),
            confusion: (!self.table.is_empty()).then(|| self.table.clone()),
            ..Beside::default()
        }
    }
}

/// The mean of a share over the classes for which it is told.
pub(super) fn mean_of(counts: &[Count], share: impl Fn(&Count) -> Option<f64>) -> f64 {
    let each: Vec<f64> = counts.iter().filter_map(share).collect();
    each.iter().sum::<f64>() / each.len().max(1) as f64
}
