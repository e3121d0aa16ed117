//! Shrinking a range to where a cost is least.

use rayon::prelude::*;
use sinter_calibrate::Histogram;

/// Candidates between the whole range and nothing.
const STEPS: usize = 128;

/// The counts without exact zeros: zero is exact on every quantizer and often half of all, and what it would hide is left to the others.
pub(super) fn counts_beside_zero(histogram: &Histogram) -> Vec<f64> {
    let mut counts: Vec<f64> = histogram.counts().iter().map(|&c| c as f64).collect();
    let at_zero = histogram.bin(0.0);
    counts[at_zero] = (counts[at_zero] - histogram.zeros() as f64).max(0.0);
    counts
}

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

/// Shrinks the upper end, then the lower, to where `cost` is least; an end at zero or beyond stays. Costs are asked of ranges that hold zero, as
/// those of quantizers do.
pub(super) fn shrink(low: f32, high: f32, cost: impl Fn(f64, f64) -> f64 + Sync) -> (f32, f32) {
    let (low, high) = (low as f64, high as f64);
    let share = |i: usize| 1.0 - i as f64 / STEPS as f64;
    // The least that costs less than the whole does, the widest of equals.
    let least = |ends: &(dyn Fn(usize) -> (f64, f64) + Sync)| {
        let costs: Vec<f64> = (0..STEPS).into_par_iter().map(|i| cost(ends(i).0.min(0.0), ends(i).1.max(0.0))).collect();
        ends((1..STEPS).fold(0, |best, i| if costs[i] < costs[best] { i } else { best }))
    };
    let (_, high) = if high > 0.0 { least(&|i| (low, high * share(i))) } else { (low, high) };
    let (low, high) = if low < 0.0 { least(&|i| (low * share(i), high)) } else { (low, high) };
    (low as f32, high as f32)
}

/// Whether what a calibration chooses costs no more, by a definition of its cost bin by bin, than what that definition itself would choose.
#[cfg(test)]
pub(super) fn costs_least(
    choice: &dyn super::RangeChoice,
    by_bin: impl Fn(&Histogram, u8, (f32, f32)) -> f64 + Sync,
    values: &[i32],
    bits: u8,
) -> bool {
    let values: Vec<f32> = values.iter().map(|&v| v.max(0) as f32 * (v % 7) as f32).collect();
    let mut observer = sinter_calibrate::Observer::new(sinter_calibrate::Watch::Histogram);
    observer.observe(&values, 1);
    let (h, seen) = (observer.histogram(), observer.seen().unwrap());
    let cost = |range: (f32, f32)| by_bin(h, bits, range);
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-9);
    let wanted = shrink(seen.0, seen.1, |l, r| cost((l as f32, r as f32)));
    close(cost(choice.choose(seen, h, bits)), cost(wanted))
}
