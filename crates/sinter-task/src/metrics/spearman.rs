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
    use super::super::tests::{twice_is_two, value};
    use super::*;
    use sinter_data::Regress;
    use tch::Tensor;

    /// `spearmanr(t, p)` of SciPy 1.17.1, t = [1.5, -0.5, 2, 7, 0.25, 3, 3], p = [1, 0, 2, 8, 0.5, 2.5, 3.5].
    #[test]
    fn as_scipy_has_it() {
        let output = Tensor::from_slice(&[1.0f32, 0.0, 2.0, 8.0, 0.5, 2.5, 3.5]).reshape([7, 1]);
        let wanted = Tensor::from_slice(&[1.5f32, -0.5, 2.0, 7.0, 0.25, 3.0, 3.0]);
        let task = Task::Regress(Regress::default());
        let parts = [(0, 4), (4, 3)].map(|(from, n)| (output.narrow(0, from, n), wanted.narrow(0, from, n)));
        let found = value(&Spearman {}, task, &parts, None);
        assert!((found - 0.991_031_208_965_115).abs() < 1e-6, "{found}");
        twice_is_two(&Spearman {}, task, &output, &wanted);
    }
}
