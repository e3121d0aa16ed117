//! One-dimensional k-means in near-linear time.
//!
//! The values are sorted once. Candidate bounds are placed by the density to the power 1/3, which is optimal in the limit of many
//! centroids (Panter and Dite, 1951), several to a centroid; dynamic programming (Wang and Song, 2011) with divide and conquer (the best
//! cut moves one way only) chooses among them, which Lloyd's iterations (1982) alone would take thousands of steps to reach. Those then
//! need only binary searches and prefix sums. Few values are clustered exactly: every one is a candidate.

/// A clustering of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// Ascending and distinct; fewer than asked for when the values have fewer distinct ones.
    pub centroids: Vec<f32>,
    /// Sum of squared distances to the nearest centroid.
    pub inertia: f64,
}

const MAX_ITERATIONS: usize = 500;
/// Up to so many values the optimum costs next to nothing.
const EXACT: usize = 4096;
/// Candidate bounds to a centroid.
const FINENESS: usize = 8;
/// Beyond so many centroids choosing among candidates takes too long, and there is little to gain.
const MANY: usize = 512;

/// Clusters finite values into at most `k` groups. No values, or `k` of 0, give no centroids.
pub fn fit(mut values: Vec<f32>, k: usize) -> Clustering {
    radsort::sort(&mut values);
    fit_sorted(&values, None, k)
}

/// Clusters finite values whose squared errors count by their weights (finite, not negative).
pub fn fit_weighted(values: &[f32], weights: &[f32], k: usize) -> Clustering {
    let mut pairs: Vec<(f32, f32)> = values.iter().copied().zip(weights.iter().copied()).collect();
    radsort::sort_by_key(&mut pairs, |p| p.0);
    let (values, weights): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
    // Values that count for nothing still need a place: next to nothing.
    let floor = (weights.iter().map(|&w| w as f64).sum::<f64>() / weights.len().max(1) as f64 * 1e-6).max(1e-30) as f32;
    let weights: Vec<f32> = weights.into_iter().map(|w| w.max(floor)).collect();
    fit_sorted(&values, Some(&weights), k)
}

fn fit_sorted(values: &[f32], weights: Option<&[f32]>, k: usize) -> Clustering {
    if values.is_empty() || k == 0 {
        return Clustering { centroids: vec![], inertia: 0.0 };
    }
    let distinct = 1 + values.windows(2).filter(|w| w[0] != w[1]).count();
    if distinct <= k {
        let mut centroids = values.to_vec();
        centroids.dedup();
        return Clustering { centroids, inertia: 0.0 };
    }
    let sums = Sums::new(values, weights);
    if values.len() <= EXACT {
        let all: Vec<usize> = (0..=values.len()).collect();
        return sums.clustering(&sums.optimum(&all, k));
    }
    let mut bounds = match k {
        ..=MANY => sums.optimum(&companded(&sums, FINENESS * k), k),
        _ => companded(&sums, k),
    };
    let mut best = sums.inertia(&bounds);
    for _ in 0..MAX_ITERATIONS {
        let next = sums.lloyd(&bounds);
        if next == bounds {
            break;
        }
        bounds = next;
        let inertia = sums.inertia(&bounds);
        // The last digits of progress cost most of the iterations.
        if best - inertia <= 1e-7 * best {
            break;
        }
        best = inertia;
    }
    sums.clustering(&bounds)
}

/// Prefix sums over sorted values, about their mean for precision.
struct Sums<'a> {
    values: &'a [f32],
    offset: f64,
    /// Of the weights; all ones where absent.
    mass: Option<Vec<f64>>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl<'a> Sums<'a> {
    fn new(values: &'a [f32], weights: Option<&[f32]>) -> Self {
        let offset = values.iter().map(|&v| v as f64).sum::<f64>() / values.len() as f64;
        let running = |term: &dyn Fn(usize, f64) -> f64| {
            let mut sums = Vec::with_capacity(values.len() + 1);
            let mut sum = 0.0;
            sums.push(sum);
            for (i, &v) in values.iter().enumerate() {
                sum += term(i, v as f64 - offset);
                sums.push(sum);
            }
            sums
        };
        let (mass, first, second) = match weights {
            None => (None, running(&|_, d| d), running(&|_, d| d * d)),
            Some(w) => {
                let mass = running(&|i, _| w[i] as f64);
                (Some(mass), running(&|i, d| w[i] as f64 * d), running(&|i, d| w[i] as f64 * d * d))
            }
        };
        Self { values, offset, mass, first, second }
    }

    /// The weight of the values from `from` to before `to`.
    fn mass(&self, from: usize, to: usize) -> f64 {
        self.mass.as_ref().map_or((to - from) as f64, |m| m[to] - m[from])
    }

    /// The mean of each stretch between bounds; an empty one has the value at its bound.
    fn means(&self, bounds: &[usize]) -> Vec<f64> {
        let mean = |from: usize, to: usize| match self.mass(from, to) {
            // Differences of running sums may lie a little outside the stretch, and means must stay in order.
            mass if to > from && mass > 0.0 => {
                let mean = (self.first[to] - self.first[from]) / mass + self.offset;
                mean.clamp(self.values[from] as f64, self.values[to - 1] as f64)
            }
            _ => self.values[from.min(self.values.len() - 1)] as f64,
        };
        bounds.windows(2).map(|w| mean(w[0], w[1])).collect()
    }

    /// New bounds halfway between the means.
    fn lloyd(&self, bounds: &[usize]) -> Vec<usize> {
        let means = self.means(bounds);
        let mut next = Vec::with_capacity(bounds.len());
        next.push(0);
        for w in means.windows(2) {
            let middle = (0.5 * (w[0] + w[1])) as f32;
            next.push(self.values.partition_point(|&v| v <= middle));
        }
        next.push(self.values.len());
        next
    }

    /// Sum of squared distances to their mean of the values from `from` to before `to`.
    fn cost(&self, from: usize, to: usize) -> f64 {
        let mass = if to > from { self.mass(from, to) } else { 0.0 };
        if mass <= 0.0 {
            return 0.0;
        }
        let s = self.first[to] - self.first[from];
        (self.second[to] - self.second[from] - s * s / mass).max(0.0)
    }

    fn inertia(&self, bounds: &[usize]) -> f64 {
        bounds.windows(2).map(|w| self.cost(w[0], w[1])).sum()
    }

    fn clustering(&self, bounds: &[usize]) -> Clustering {
        let mut centroids = self.means(bounds).into_iter().map(|m| m as f32).collect::<Vec<_>>();
        centroids.dedup();
        Clustering { centroids, inertia: self.inertia(bounds) }
    }

    /// The bounds of least inertia among some that ascend from the first value to the end.
    fn optimum(&self, among: &[usize], k: usize) -> Vec<usize> {
        let n = among.len() - 1;
        let mut best: Vec<f64> = (0..=n).map(|j| self.cost(0, among[j])).collect();
        // cuts[c][j]: where the last of c + 2 clusters up to bound j begins.
        let mut cuts = Vec::with_capacity(k);
        for _ in 1..k {
            let mut row = (vec![f64::INFINITY; n + 1], vec![0u32; n + 1]);
            self.best_cuts(among, &best, &mut row, (0, n), (0, n));
            best = row.0;
            cuts.push(row.1);
        }
        let mut bounds = vec![n];
        for row in cuts.iter().rev() {
            bounds.push(row[bounds[bounds.len() - 1]] as usize);
        }
        bounds.push(0);
        bounds.reverse();
        bounds.into_iter().map(|j| among[j]).collect()
    }

    /// Fills `row` for the bounds `from..=to`, whose best cuts lie in `low..=high`.
    fn best_cuts(
        &self,
        among: &[usize],
        before: &[f64],
        row: &mut (Vec<f64>, Vec<u32>),
        (from, to): (usize, usize),
        (low, high): (usize, usize),
    ) {
        let middle = (from + to) / 2;
        let total = |cut: usize| before[cut] + self.cost(among[cut], among[middle]);
        let cuts = (low..=high.min(middle)).map(|cut| (total(cut), cut));
        let best = cuts.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, low));
        row.0[middle] = best.0;
        row.1[middle] = best.1 as u32;
        if middle > from {
            self.best_cuts(among, before, row, (from, middle - 1), (low, best.1));
        }
        if middle < to {
            self.best_cuts(among, before, row, (middle + 1, to), (best.1, high));
        }
    }
}

/// Bounds that give each cluster the same share of density^(1/3).
fn companded(sums: &Sums, k: usize) -> Vec<usize> {
    let values = sums.values;
    let n = values.len();
    // Stretches of equally many values: density is one over the width.
    let pieces = (64 * k).clamp(256, 16384).min(n);
    let at = |p: usize| p * n / pieces;
    let mut mass = Vec::with_capacity(pieces);
    for p in 0..pieces {
        let (from, to) = (at(p), at(p + 1));
        let width = (values[to.min(n - 1)] - values[from]) as f64;
        // density^(1/3) * width, with density = count / width.
        mass.push(sums.mass(from, to).cbrt() * width.max(0.0).powf(2.0 / 3.0));
    }
    let total: f64 = mass.iter().sum();
    let mut bounds = vec![0];
    let (mut sum, mut p) = (0.0, 0);
    for c in 1..k {
        let target = total * c as f64 / k as f64;
        while p + 1 < pieces && sum + mass[p] < target {
            sum += mass[p];
            p += 1;
        }
        let inside = if mass[p] > 0.0 { ((target - sum) / mass[p]).clamp(0.0, 1.0) } else { 0.0 };
        let bound = at(p) as f64 + inside * (at(p + 1) - at(p)) as f64;
        bounds.push((bound.round() as usize).clamp(*bounds.last().unwrap_or(&0), n));
    }
    bounds.push(n);
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The optimum by dynamic programming over sorted values (Wang and Song, 2011): quadratic, for small inputs.
    fn optimum(values: &[f32], k: usize) -> f64 {
        let mut v: Vec<f64> = values.iter().map(|&x| x as f64).collect();
        v.sort_by(f64::total_cmp);
        let n = v.len();
        let cost = |i: usize, j: usize| {
            let part = &v[i..j];
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            part.iter().map(|x| (x - mean).powi(2)).sum::<f64>()
        };
        let mut best: Vec<f64> = (0..=n).map(|j| if j == 0 { 0.0 } else { cost(0, j) }).collect();
        for _ in 1..k {
            let previous = best.clone();
            for j in 1..=n {
                best[j] = (0..j).map(|i| previous[i] + cost(i, j)).fold(previous[j], f64::min);
            }
        }
        best[n]
    }

    fn gaussian(n: usize, seed: u64) -> Vec<f32> {
        to_f32s(&sinter_model::seeded(seed, |random| random.normal(&[n as i64])).unwrap())
    }

    fn to_f32s(t: &tch::Tensor) -> Vec<f32> {
        sinter_model::to_f32s(t).unwrap()
    }

    #[test]
    fn many_values_come_within_three_thousandths_of_the_optimum() {
        let mut values = gaussian(60_000, 3);
        values.sort_by(f32::total_cmp);
        let sums = Sums::new(&values, None);
        let all: Vec<usize> = (0..=values.len()).collect();
        for k in [4, 16, 64] {
            let (ours, best) = (fit(values.clone(), k).inertia, sums.inertia(&sums.optimum(&all, k)));
            assert!(ours <= 1.003 * best, "k={k}: {ours} against {best}");
        }
    }

    #[test]
    fn a_large_gaussian_meets_the_known_distortion() {
        // Max (1960): the least mean squared error of 16 levels for a unit normal is 0.009497.
        let values = gaussian(400_000, 1);
        let n = values.len() as f64;
        let mse = fit(values, 16).inertia / n;
        assert!((mse / 0.009497 - 1.0).abs() < 0.01, "{mse}");
    }

    #[test]
    fn weights_draw_centroids() {
        // Two centroids for three values: the two that count least share one.
        let found = fit_weighted(&[0.0, 1.0, 2.5], &[10.0, 10.0, 0.001], 2);
        assert!((found.centroids[0] - 0.0).abs() < 1e-6 && (found.centroids[1] - 1.0).abs() < 1e-3, "{found:?}");
        let values = gaussian(30_000, 5);
        let even = fit_weighted(&values, &vec![2.0; values.len()], 12);
        let plain = fit(values, 12);
        assert!((even.inertia / plain.inertia - 2.0).abs() < 1e-6);
    }

    #[test]
    fn few_distinct_values_are_kept_as_they_are() {
        let found = fit(vec![1.0, 1.0, -2.0, 1.0], 16);
        assert_eq!(found, Clustering { centroids: vec![-2.0, 1.0], inertia: 0.0 });
        assert!(fit(vec![], 4).centroids.is_empty());
    }

    proptest! {
        /// Few values are clustered exactly, and the inertia is what the centroids give.
        #[test]
        fn inertia_is_honest(values in proptest::collection::vec(-100i32..100, 1..60), k in 1usize..8) {
            let values: Vec<f32> = values.iter().map(|&v| v as f32 / 7.0).collect();
            let found = fit(values.clone(), k);
            prop_assert!(found.centroids.len() <= k);
            prop_assert!((found.inertia - optimum(&values, k)).abs() < 1e-6 * (1.0 + found.inertia));
            let nearest = |v: f32| found.centroids.iter().map(|c| ((v - c) as f64).powi(2)).fold(f64::INFINITY, f64::min);
            let direct: f64 = values.iter().map(|&v| nearest(v)).sum();
            prop_assert!(direct <= found.inertia * (1.0 + 1e-4) + 1e-4);
        }
    }
}
