//! Vector codebooks: runs of weights share centroids (product quantization; Jégou et al., 2011).

use kmeans::{EuclideanDistance, KMeans, KMeansConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;
use sinter_model::{Codebook, OpError, to_f32s};
use tch::{Kind, Tensor};

/// More runs than this are clustered by a sample of them; all are assigned.
const SAMPLE: usize = 65_536;
const ITERATIONS: usize = 60;
/// Rounds of importance-weighted means and assignments after k-means.
const WEIGHTED_ROUNDS: usize = 4;

/// A codebook of at most `k` vectors of `d` weights that follow each other in `value`. `importance`, of the same shape, weighs squared
/// errors. The first axis must hold whole runs.
pub(crate) fn fit(value: &Tensor, importance: Option<&Tensor>, k: usize, d: usize, seed: u64) -> Result<Codebook, OpError> {
    let rows = value.f_reshape([-1, d as i64])?;
    let count = rows.size()[0] as usize;
    let mut rng = fastrand::Rng::with_seed(seed);
    let chosen = if count > SAMPLE {
        let picked: Vec<i64> = (0..SAMPLE).map(|_| rng.usize(..count) as i64).collect();
        rows.f_index_select(0, &Tensor::from_slice(&picked))?
    } else {
        rows.shallow_clone()
    };
    let (distinct, _, _) = chosen.f_unique_dim(0, true, false, false)?;
    // The crate wants more samples than clusters; few distinct runs are their own centroids.
    let mut centroids = if distinct.size()[0] as usize <= k {
        distinct
    } else {
        let samples = to_f32s(&chosen)?;
        let means: KMeans<f32, 8, _> = KMeans::new(&samples, samples.len() / d, d, EuclideanDistance);
        let config = KMeansConfig::build().random_generator(StdRng::seed_from_u64(seed)).build();
        let found = means.kmeans_lloyd(k, ITERATIONS, KMeans::init_kmeanplusplus, &config);
        Tensor::from_slice(&found.centroids.to_vec()).f_reshape([-1, d as i64])?
    };
    let weights = importance.map(|h| h.f_reshape([-1, d as i64])).transpose()?;
    let mut indices = nearest(&rows, weights.as_ref(), &centroids)?;
    for _ in 0..weights.as_ref().map_or(0, |_| WEIGHTED_ROUNDS) {
        let Some(w) = &weights else { break };
        let (zero, mass) = (centroids.f_zeros_like()?, w.f_add_scalar(1e-12)?);
        let sums = zero.f_index_add(0, &indices, &rows.f_mul(&mass)?)?;
        let masses = zero.f_index_add(0, &indices, &mass)?;
        centroids = sums.f_div(&masses)?.f_where_self(&masses.f_gt(0.0)?, &centroids)?;
        indices = nearest(&rows, weights.as_ref(), &centroids)?;
    }
    let first = value.size().first().copied().unwrap_or(1).max(1);
    Codebook::new(&centroids, &indices.f_reshape([first, -1])?, vec![])
}

/// The centroid of least (weighted) squared distance of each row.
fn nearest(rows: &Tensor, weights: Option<&Tensor>, centroids: &Tensor) -> Result<Tensor, OpError> {
    // Some thousand rows at a time bound the memory.
    let step = (16_777_216 / centroids.size()[0].max(1)).clamp(1, 65_536);
    let mut parts = Vec::new();
    for start in (0..rows.size()[0]).step_by(step as usize) {
        let len = step.min(rows.size()[0] - start);
        let x = rows.f_narrow(0, start, len)?;
        // sum w (x - c)^2 = const - 2 (w x) c + w c^2.
        let w = match weights {
            Some(w) => w.f_narrow(0, start, len)?,
            None => x.f_ones_like()?,
        };
        let cross = x.f_mul(&w)?.f_matmul(&centroids.f_tr()?)?.f_mul_scalar(2.0)?;
        let square = w.f_matmul(&centroids.f_square()?.f_tr()?)?;
        parts.push(square.f_sub(&cross)?.f_argmin(1, false)?);
    }
    Ok(Tensor::f_cat(&parts, 0)?.f_to_kind(Kind::Int64)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::seeded;

    #[test]
    fn vectors_find_their_clusters_and_importance_draws_them() {
        let (place, noise) = seeded(3, |random| (random.uniform(&[300]).unwrap() * 4, random.normal(&[300, 2]).unwrap() * 0.01));
        let place = place.to_kind(Kind::Int64);
        let corners = Tensor::from_slice(&[1f32, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0]).reshape([4, 2]);
        let value = (corners.index_select(0, &place) + noise).reshape([30, 20]);
        let codebook = fit(&value, None, 4, 2, 1).unwrap();
        assert_eq!((codebook.len(), codebook.dim()), (4, 2));
        let error = (codebook.apply(&value).unwrap() - &value).square().mean(Kind::Float).double_value(&[]);
        assert!(error < 2e-4, "{error}");
        // With 2 centroids only the first weight of each pair counts: it comes out right, whatever the second does.
        let first = Tensor::from_slice(&[1f32, 0.0]).repeat([150]).repeat([2]).reshape([30, 20]);
        let codebook = fit(&value, Some(&first), 2, 2, 1).unwrap();
        let off = ((codebook.apply(&value).unwrap() - &value).square() * &first).sum(Kind::Float).double_value(&[]);
        assert!(off / 300.0 < 2e-4, "{off}");
    }
}
