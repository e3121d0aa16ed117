//! Which class is taken for which: what accuracy and F1 are computed from.

use sinter_model::to_i64s;
use tch::Kind;

use super::Seen;
use crate::error::TaskError;

/// Counts over batches.
#[derive(Debug, Default)]
pub(super) struct Confusion {
    /// `table[label][predicted]`.
    table: Vec<Vec<u32>>,
    samples: u64,
    hits: u64,
    /// Samples whose label is among the five largest outputs.
    among_five: i64,
}

/// Tables of more classes are too large to be told.
const MOST_CLASSES: usize = 100;

impl Confusion {
    /// Takes in a batch: the prediction is the largest output.
    pub fn add(&mut self, seen: &Seen, who: &'static str) -> Result<(), TaskError> {
        let (labels, classes) = (seen.labels(who)?, seen.output.size()[1] as usize);
        let predicted = to_i64s(&seen.output.f_argmax(1, false)?)?;
        if classes > 5 {
            let (_, top) = seen.output.f_topk(5, 1, true, false)?;
            let hit = top.f_eq_tensor(&labels.f_unsqueeze(1)?)?.f_any_dim(1, false)?;
            self.among_five += hit.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        }
        if self.table.is_empty() {
            self.table = vec![vec![0; classes]; classes];
        }
        for (&p, l) in predicted.iter().zip(to_i64s(labels)?) {
            self.samples += 1;
            self.hits += u64::from(p == l);
            if let Some(cell) = self.table.get_mut(l as usize).and_then(|row| row.get_mut(p as usize)) {
                *cell += 1;
            }
        }
        Ok(())
    }

    /// The share of predictions that are the label.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.samples.max(1) as f64
    }

    /// The table.
    pub fn table(&self) -> &[Vec<u32>] {
        &self.table
    }

    /// The share of samples whose label is among the five largest outputs; with more than five classes.
    pub fn top5(&self) -> Option<f64> {
        (self.table().len() > 5).then_some(self.among_five as f64 / self.samples.max(1) as f64)
    }

    /// The table, where it is small enough to be told.
    pub fn into_small_table(self) -> Option<Vec<Vec<u32>>> {
        (!self.table.is_empty() && self.table.len() <= MOST_CLASSES).then_some(self.table)
    }
}
