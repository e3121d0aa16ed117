//! A cloud of recipes that learns its own shape.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartcore::linalg::basic::arrays::{Array, Array2, MutArray};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::evd::EVDDecomposable;

use super::{Asked, Sample};
use crate::pareto::{Outcome, order};
use crate::space::{Point, Space};
use crate::values::Values;

/// Draws recipes from a normal distribution, and moves, widens and turns it by the better half of each generation (CMA-ES; Hansen, 2016). Where it has
/// shrunk to a point it begins anew, with generations twice as large (Auger and Hansen, 2005). For ranges that hang together, one figure and a hundred trials or more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cmaes {
    /// How wide it begins, as a part of each range. Default: 0.17.
    pub width: f64,
}

impl Default for Cmaes {
    fn default() -> Self {
        Self { width: 0.17 }
    }
}

/// A cloud that is narrower is a point.
const POINT: f64 = 1e-4;
/// How often a recipe outside of the space is drawn again, before it is put onto its edge.
const AGAIN: usize = 100;

impl Sample for Cmaes {
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point> {
        let mut random = asked.random(attempt);
        let cloud = Cloud::after(asked, self.width);
        let inside = |x: &Vec<f64>| x.iter().all(|v| (0.0..=1.0).contains(v));
        let mut drawn = cloud.draw(&mut random);
        for _ in 0..AGAIN {
            if inside(&drawn) {
                break;
            }
            drawn = cloud.draw(&mut random);
        }
        Some(asked.space.draw(|at, _| drawn[at].clamp(0.0, 1.0)))
    }

    fn unfit(&self, space: &Space) -> Option<String> {
        if !(self.width > 0.0 && self.width <= 1.0) {
            return Some(format!("`width: {}` is no part of a range: write a number above 0, up to 1", self.width));
        }
        let choice = space.parameters.iter().find(|p| matches!(p.values, Values::Choices(_)) || !p.when.is_empty());
        choice.map(|p| {
            format!(
                "`cmaes` goes along ranges, and `{}` has choices or is there only sometimes: take tpe, or make it a range",
                p.key
            )
        })
    }
}

/// Where recipes are drawn from.
struct Cloud {
    mean: Vec<f64>,
    width: f64,
    /// The covariance's axes, one a column, and how long each is.
    axes: DenseMatrix<f64>,
    lengths: Vec<f64>,
    covariance: DenseMatrix<f64>,
    path: Vec<f64>,
    path_of_width: Vec<f64>,
    generation: usize,
    /// Recipes of a generation.
    count: usize,
}

impl Cloud {
    fn new(mean: Vec<f64>, width: f64, count: usize) -> Self {
        let n = mean.len();
        let (path, path_of_width) = (vec![0.0; n], vec![0.0; n]);
        let (axes, covariance) = (DenseMatrix::eye(n), DenseMatrix::eye(n));
        Self { mean, width, axes, lengths: vec![1.0; n], covariance, path, path_of_width, generation: 0, count }
    }

    /// As it is after all generations that are whole.
    fn after(asked: &Asked, width: f64) -> Self {
        let n = asked.space.parameters.len();
        let least = 4 + (3.0 * (n as f64).ln()).floor() as usize;
        let mut cloud = Self::new(vec![0.5; n], width, least);
        let mut from = 0;
        while let Some(generation) = asked.told.get(from..from + cloud.count) {
            from += cloud.count;
            let outcomes: Vec<&Outcome> = generation.iter().map(|(_, outcome)| outcome).collect();
            let ranked: Vec<Vec<f64>> = order(&outcomes)
                .into_iter()
                .map(|i| generation[i].0.iter().map(|place| place.unwrap_or(0.5)).collect())
                .collect();
            cloud.learn(&ranked);
            if cloud.width * cloud.lengths.iter().copied().fold(0.0, f64::max) < POINT || !cloud.width.is_finite() {
                // Whoever asks later must see the same.
                let mut random = fastrand::Rng::with_seed(asked.seed ^ (from as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                cloud = Self::new((0..n).map(|_| random.f64()).collect(), width, cloud.count * 2);
            }
        }
        cloud
    }

    fn draw(&self, random: &mut fastrand::Rng) -> Vec<f64> {
        let z: Vec<f64> = self.lengths.iter().map(|length| length * super::tpe::normal(random)).collect();
        (0..z.len())
            .map(|i| self.mean[i] + self.width * (0..z.len()).map(|j| self.axes.get((i, j)) * z[j]).sum::<f64>())
            .collect()
    }

    /// Takes in a generation, the best recipe first. Names and constants are those of Hansen's tutorial (arXiv 1604.00772, figure 6).
    fn learn(&mut self, ranked: &[Vec<f64>]) {
        let n = self.mean.len();
        let parents = self.count / 2;
        let raw: Vec<f64> = (0..parents).map(|i| ((self.count as f64 + 1.0) / 2.0).ln() - (i as f64 + 1.0).ln()).collect();
        let sum: f64 = raw.iter().sum();
        let weights: Vec<f64> = raw.iter().map(|w| w / sum).collect();
        let mass = 1.0 / weights.iter().map(|w| w * w).sum::<f64>();
        let size = n as f64;
        let for_width = (mass + 2.0) / (size + mass + 5.0);
        let damping = 1.0 + for_width + 2.0 * (((mass - 1.0) / (size + 1.0)).sqrt() - 1.0).max(0.0);
        let for_path = (4.0 + mass / size) / (size + 4.0 + 2.0 * mass / size);
        let one = 2.0 / ((size + 1.3).powi(2) + mass);
        let many = (1.0 - one).min(2.0 * (mass - 2.0 + 1.0 / mass) / ((size + 2.0).powi(2) + mass));
        let expected = size.sqrt() * (1.0 - 1.0 / (4.0 * size) + 1.0 / (21.0 * size * size));

        let steps: Vec<Vec<f64>> =
            ranked[..parents].iter().map(|x| x.iter().zip(&self.mean).map(|(x, m)| (x - m) / self.width).collect()).collect();
        let step: Vec<f64> = (0..n).map(|i| weights.iter().zip(&steps).map(|(w, y)| w * y[i]).sum()).collect();
        self.mean.iter_mut().zip(&step).for_each(|(m, y)| *m += self.width * y);
        self.generation += 1;
        // The step as the cloud would have taken it were it round.
        let inner: Vec<f64> =
            (0..n).map(|j| (0..n).map(|i| self.axes.get((i, j)) * step[i]).sum::<f64>() / self.lengths[j]).collect();
        let keep = (for_width * (2.0 - for_width) * mass).sqrt();
        for i in 0..n {
            let round = (0..n).map(|j| self.axes.get((i, j)) * inner[j]).sum::<f64>();
            self.path_of_width[i] = (1.0 - for_width) * self.path_of_width[i] + keep * round;
        }
        let length = self.path_of_width.iter().map(|p| p * p).sum::<f64>().sqrt();
        let settled = (1.0 - (1.0 - for_width).powi(2 * self.generation as i32)).sqrt();
        let moves = length / settled < (1.4 + 2.0 / (size + 1.0)) * expected;
        let keep = if moves { (for_path * (2.0 - for_path) * mass).sqrt() } else { 0.0 };
        self.path.iter_mut().zip(&step).for_each(|(p, y)| *p = (1.0 - for_path) * *p + keep * y);
        let lost = if moves { 0.0 } else { one * for_path * (2.0 - for_path) };
        for i in 0..n {
            for j in 0..n {
                let of_many: f64 = weights.iter().zip(&steps).map(|(w, y)| w * y[i] * y[j]).sum();
                let old = (1.0 - one - many + lost) * self.covariance.get((i, j));
                self.covariance.set((i, j), old + one * self.path[i] * self.path[j] + many * of_many);
            }
        }
        self.width *= ((for_width / damping) * (length / expected - 1.0)).exp();
        let finite = (0..n).all(|i| (0..n).all(|j| self.covariance.get((i, j)).is_finite())) && self.width.is_finite();
        if !finite {
            // It begins anew then.
            self.width = 0.0;
            return;
        }
        if let Ok(parts) = self.covariance.evd(true) {
            self.lengths = parts.d.iter().map(|d| d.max(1e-20).sqrt()).collect();
            self.axes = parts.V;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a ball and on a stretched, turned valley it comes to the bottom, as CMA-ES must.
    #[test]
    fn the_bottom_is_found() {
        let turned = |x: &[f64]| (x[0] + x[1] - 0.9).powi(2) + 1e3 * (x[0] - x[1] - 0.1).powi(2) + (x[2] - 0.3).powi(2);
        let ball = |x: &[f64]| x.iter().map(|v| (v - 0.4).powi(2)).sum::<f64>();
        for function in [&turned as &dyn Fn(&[f64]) -> f64, &ball] {
            let mut random = fastrand::Rng::with_seed(5);
            let mut cloud = Cloud::new(vec![0.5; 3], 0.17, 7);
            for _ in 0..120 {
                let mut generation: Vec<Vec<f64>> = (0..7).map(|_| cloud.draw(&mut random)).collect();
                generation.sort_by(|a, b| function(a).total_cmp(&function(b)));
                cloud.learn(&generation);
            }
            assert!(function(&cloud.mean) < 1e-12, "{} at {:?}", function(&cloud.mean), cloud.mean);
        }
    }
}
