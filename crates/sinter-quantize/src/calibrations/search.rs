//! Shrinking a range to where a cost is least.

use rayon::prelude::*;

/// Candidates between the whole range and nothing.
const STEPS: usize = 128;

/// Sums of the first 0, 1, 2 and so on.
pub(super) fn running(values: impl Iterator<Item = [f64; 3]>) -> Vec<[f64; 3]> {
    let mut sum = [0.0; 3];
    let sums = values.map(|v| {
        sum = std::array::from_fn(|i| sum[i] + v[i]);
        sum
    });
    std::iter::once([0.0; 3]).chain(sums).collect()
}

pub(super) fn difference(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| a[i] - b[i])
}

/// Shrinks the upper end, then the lower, to where `cost` is least; an end at zero or beyond stays.
pub(super) fn shrink(low: f32, high: f32, cost: impl Fn(f64, f64) -> f64 + Sync) -> (f32, f32) {
    let (low, high) = (low as f64, high as f64);
    let share = |i: usize| 1.0 - i as f64 / STEPS as f64;
    // The least that costs less than the whole does, the widest of equals.
    let least = |ends: &(dyn Fn(usize) -> (f64, f64) + Sync)| {
        let costs: Vec<f64> = (0..STEPS).into_par_iter().map(|i| cost(ends(i).0, ends(i).1)).collect();
        ends((1..STEPS).fold(0, |best, i| if costs[i] < costs[best] { i } else { best }))
    };
    let (_, high) = if high > 0.0 { least(&|i| (low, high * share(i))) } else { (low, high) };
    let (low, high) = if low < 0.0 { least(&|i| (low * share(i), high)) } else { (low, high) };
    (low as f32, high as f32)
}
