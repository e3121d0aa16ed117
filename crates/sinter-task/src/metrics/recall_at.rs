//! Whether a like lies among the nearest.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use sinter_model::{to_f32s, to_i64s};
use tch::{Kind, Tensor};

use super::means::weighted_mean;
use super::{Alone, Measure, Seen, Tally, rows_of};
use crate::error::TaskError;
use crate::metric::Metric;

/// The share of samples with a sample of the same label among the `k` nearest others, by cosine: how a search by vectors does. Those without a like are
/// left out. Compares all samples with all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecallAt {
    /// How many. Default: 1.
    pub k: u32,
}

impl Default for RecallAt {
    fn default() -> Self {
        Self { k: 1 }
    }
}

impl Measure for RecallAt {
    fn metric(&self) -> Metric {
        Metric { name: format!("recall@{}", self.k).into(), ..Metric::share("") }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Embed(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Vectors { k: i64::from(self.k.max(1)), rows: vec![], labels: vec![], found: vec![] })
    }
}

struct Vectors {
    k: i64,
    /// Of length one, one after the other.
    rows: Vec<f32>,
    labels: Vec<i64>,
    /// Whether each sample finds a like; `None` where it has none.
    found: Vec<Option<bool>>,
}

/// Rows that are compared at once.
const ROWS: i64 = 1024;

impl Tally for Vectors {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let rows = rows_of(seen.output())?.f_to_kind(Kind::Float)?;
        let length = rows.f_square()?.f_sum_dim_intlist(1, true, Kind::Float)?.f_sqrt()?.f_clamp_min(1e-12)?;
        self.rows.extend(to_f32s(&rows.f_div(&length)?)?);
        self.labels.extend(to_i64s(seen.labels("recall@k")?)?);
        Ok(())
    }

    fn close(&mut self) -> Result<(), TaskError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let n = self.labels.len() as i64;
        let all = Tensor::f_from_slice(&std::mem::take(&mut self.rows))?.f_reshape([n, -1])?;
        let mut counts = BTreeMap::<i64, usize>::new();
        self.labels.iter().for_each(|l| *counts.entry(*l).or_default() += 1);
        let k = self.k.min(n - 1).max(0);
        for from in (0..n).step_by(ROWS as usize) {
            let rows = ROWS.min(n - from);
            let near = all.f_narrow(0, from, rows)?.f_matmul(&all.f_tr()?)?;
            // Nobody is a find of its own.
            let own = Tensor::f_arange_start(from, from + rows, (Kind::Int64, all.device()))?.f_unsqueeze(1)?;
            let near = near.f_scatter_value(1, &own, f64::NEG_INFINITY)?;
            let (_, nearest) = near.f_topk(k, 1, true, false)?;
            let nearest = to_i64s(&nearest.f_reshape([-1])?)?;
            for row in 0..rows as usize {
                let label = self.labels[from as usize + row];
                let of = &nearest[row * k as usize..(row + 1) * k as usize];
                let hit = of.iter().any(|&other| self.labels[other as usize] == label);
                self.found.push((counts[&label] > 1).then_some(hit));
            }
        }
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        let mine = self.found.iter().zip(times).filter_map(|(f, &t)| f.map(|f| (f64::from(u8::from(f)), t)));
        let (values, times): (Vec<f64>, Vec<u32>) = mine.unzip();
        weighted_mean(values.into_iter(), &times)
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        (*self.found.get(sample)?).map(|found| Alone::of(f64::from(u8::from(found))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::value;
    use super::*;
    use sinter_data::Embed;

    #[test]
    fn the_nearest_other_is_asked() {
        // Two of a kind lie together whatever their length; the fourth has no like.
        let rows = [[1f32, 0.0], [9.0, 0.5], [0.0, 1.0], [0.9, 0.9], [-1.0, 1.1], [0.2, 1.0]].concat();
        let output = Tensor::from_slice(&rows).reshape([6, 2]);
        let labels = Tensor::from_slice(&[0i64, 0, 1, 2, 1, 1]);
        let task = Task::Embed(Embed::default());
        let parts = [(0, 4), (4, 2)].map(|(from, n)| (output.narrow(0, from, n), labels.narrow(0, from, n)));
        assert!((value(&RecallAt { k: 1 }, task, &parts, None) - 1.0).abs() < 1e-9);
        // The first two find each other, of other labels now; the fifth finds the third.
        let mixed = Tensor::from_slice(&[0i64, 1, 1, 2, 0, 1]);
        let batch = || [(output.shallow_clone(), mixed.shallow_clone())];
        assert!((value(&RecallAt { k: 1 }, task, &batch(), None) - 2.0 / 5.0).abs() < 1e-9);
        assert!((value(&RecallAt { k: 1 }, task, &batch(), Some(&[1, 1, 0, 5, 0, 2])) - 0.5).abs() < 1e-9);
    }
}
