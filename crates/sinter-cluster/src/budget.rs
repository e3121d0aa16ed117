//! How many centroids each layer gets when all together may take so many bytes.

use crate::algorithms::scalar::{Clustering, fit_weighted};

/// The numbers of centroids that are tried, zero not counted.
const CANDIDATES: [usize; 15] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256];

/// The values of a layer that take centroids, how much each counts, and how many more are zero by a mask.
pub(crate) struct Demand {
    pub values: Vec<f32>,
    pub importance: Vec<f32>,
    pub zeros: usize,
}

/// A possible choice for a layer.
struct Choice {
    centroids: usize,
    /// Entropy of the indices and the float16 table, in bits.
    bits: f64,
    error: f64,
}

/// The number of centroids of each layer (zero not counted) of least total error within `budget` bytes, and the bytes that they take.
/// Errors with the least possible size when the budget is below it.
///
/// Lagrangian rate-distortion (Shoham and Gersho, 1988): at a price for a bit every layer chooses for itself; the price is bisected.
pub(crate) fn allocate(layers: &[Demand], budget: u64) -> Result<(Vec<usize>, u64), u64> {
    let choices: Vec<Vec<Choice>> = layers.iter().map(choices).collect();
    let at = |price: f64| -> (Vec<usize>, f64) {
        let mut bits = 0.0;
        let picked = choices.iter().map(|choices| {
            let cost = |c: &&Choice| c.error + price * c.bits;
            let best = choices.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
            best.map_or(0, |best| {
                bits += best.bits;
                best.centroids
            })
        });
        (picked.collect(), bits)
    };
    let bytes = |bits: f64| (bits / 8.0).ceil() as u64;
    let (mut low, mut high) = (0.0, 1.0);
    let fits = |price: f64| bytes(at(price).1) <= budget;
    let mut tries = 0;
    while !fits(high) && tries < 200 {
        high *= 4.0;
        tries += 1;
    }
    if !fits(high) {
        return Err(bytes(at(f64::MAX / 1e9).1));
    }
    if fits(low) {
        high = low;
    }
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if fits(middle) { high = middle } else { low = middle }
    }
    let (chosen, bits) = at(high);
    Ok((chosen, bytes(bits)))
}

fn choices(layer: &Demand) -> Vec<Choice> {
    let all = (layer.values.len() + layer.zeros) as f64;
    let mut choices = Vec::new();
    for k in CANDIDATES {
        let Clustering { centroids, inertia } = fit_weighted(&layer.values, &layer.importance, k);
        let mut counts = vec![0usize; centroids.len()];
        let middles: Vec<f32> = centroids.windows(2).map(|w| 0.5 * (w[0] + w[1])).collect();
        layer.values.iter().for_each(|&v| counts[middles.partition_point(|&m| m < v)] += 1);
        let entropy: f64 =
            counts.iter().chain([&layer.zeros]).filter(|c| **c > 0).map(|&c| c as f64 * (all / c as f64).log2()).sum();
        let done = centroids.len() < k;
        choices.push(Choice { centroids: k, bits: entropy + 16.0 * (centroids.len() + 1) as f64, error: inertia });
        if done {
            break;
        }
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(n: usize, spread: f32, weight: f32) -> Demand {
        let mut rng = fastrand::Rng::with_seed(n as u64);
        let values = (0..n).map(|_| (rng.f32() + rng.f32() + rng.f32() - 1.5) * spread).collect();
        Demand { values, importance: vec![weight; n], zeros: n }
    }

    #[test]
    fn budgets_are_kept_and_go_where_errors_count() {
        let layers = [demand(4000, 1.0, 1.0), demand(4000, 1.0, 100.0)];
        let mut last = f64::INFINITY;
        for budget in [2500, 3000, 4000, 6000] {
            let (chosen, bytes) = allocate(&layers, budget).unwrap();
            assert!(bytes <= budget && chosen[1] >= chosen[0], "{budget}: {chosen:?} {bytes}");
            let error: f64 = layers.iter().zip(&chosen).map(|(l, &k)| fit_weighted(&l.values, &l.importance, k).inertia).sum();
            assert!(error < last, "more bytes, more error at {budget}");
            last = error;
        }
        let least = allocate(&layers, 10).unwrap_err();
        assert!(allocate(&layers, least).is_ok() && allocate(&layers, least - 1).is_err());
    }
}
