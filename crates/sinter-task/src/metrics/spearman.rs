//! The correlation of ranks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::sums::{Pairs, ValuePair};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The correlation of the ranks of outputs and labels, ties in the middle (Spearman, 1904): of scores whose order alone matters, as likeness of texts
/// has. Keeps all values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spearman {}

impl Measure for Spearman {
    fn metric(&self) -> Metric {
        Metric::bounded("Spearman", -1.0, 1.0)
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Regress(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Pairs::start(value)
    }
}

fn value(pairs: &[ValuePair], times: &[u32]) -> f64 {
    let often = |sample: u32| f64::from(times.get(sample as usize).copied().unwrap_or(0));
    let weights: Vec<f64> = pairs.iter().map(|p| often(p.2)).collect();
    let (x, y) = (ranks(pairs, &weights, |p| p.0), ranks(pairs, &weights, |p| p.1));
    let mut sums = [0.0; 6];
    for ((x, y), w) in x.iter().zip(&y).zip(&weights) {
        for (sum, v) in sums.iter_mut().zip([1.0, *x, *y, x * x, y * y, x * y]) {
            *sum += w * v;
        }
    }
    let [n, x, y, xx, yy, xy] = sums;
    let spread = (xx - x * x / n) * (yy - y * y / n);
    if spread > 0.0 { (xy - x * y / n) / spread.sqrt() } else { 0.0 }
}

/// The rank of each value, where each counts as often as its weight.
fn ranks(pairs: &[ValuePair], weights: &[f64], of: fn(&ValuePair) -> f32) -> Vec<f64> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| of(&pairs[a]).total_cmp(&of(&pairs[b])));
    let (mut ranks, mut below, mut start) = (vec![0.0; pairs.len()], 0.0, 0);
    while start < order.len() {
        let same = |i: &&usize| of(&pairs[**i]) == of(&pairs[order[start]]);
        let count = order[start..].iter().take_while(same).count().max(1);
        let group = &order[start..start + count];
        let weight: f64 = group.iter().map(|&i| weights[i]).sum();
        group.iter().for_each(|&i| ranks[i] = below + (weight + 1.0) / 2.0);
        below += weight;
        start += count;
    }
    ranks
}

#[cfg(test)]
mod tests {
    /// `spearmanr(t, p)` of SciPy 1.17.1.
    #[test]
    fn as_scipy_has_it() {
        super::super::tests::regression(&super::Spearman {}, 0.991_031_208_965_115);
    }
}
