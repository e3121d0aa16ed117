//! The codebook: weights that share a few values.

use tch::{Kind, Tensor};

use crate::error::{OpResult, invalid};
use crate::tensor::{to_f32s, to_i64s};

/// A scalar codebook: `centroids[k]` and, for every weight, the index of its centroid.
#[derive(Debug)]
pub struct Codebook {
    centroids: Tensor,
    indices: Tensor,
    /// The centroid of pruned weights: it stays zero while the others are trained.
    zero: Option<usize>,
}

impl Codebook {
    /// From centroids (float32, `[k]`), indices (integers of the weight's shape, each below k), and the centroid that is kept at
    /// zero, if any.
    pub fn new(centroids: &Tensor, indices: &Tensor, zero: Option<usize>) -> OpResult<Self> {
        let k = centroids.numel() as i64;
        if centroids.dim() != 1 || k == 0 {
            invalid!("a codebook needs centroids of shape [k] with k > 0, not {:?}", centroids.size());
        }
        let indices = indices.f_to_kind(Kind::Int64)?.f_contiguous()?;
        if indices.numel() > 0 && (indices.min().int64_value(&[]) < 0 || indices.max().int64_value(&[]) >= k) {
            invalid!("a codebook index lies outside its {k} centroids");
        }
        if zero.is_some_and(|z| z >= k as usize) {
            invalid!("the zero centroid lies outside the {k} centroids");
        }
        Ok(Self { centroids: centroids.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?, indices, zero })
    }

    /// Each latent weight takes the nearest of `centroids`; those that `keep` drops take the centroid zero, which must exist.
    pub fn assign(centroids: &[f32], latent: &Tensor, keep: Option<&Tensor>) -> OpResult<Self> {
        if centroids.is_empty() || centroids.iter().any(|c| !c.is_finite()) {
            invalid!("a codebook needs at least one centroid, all finite");
        }
        let mut sorted = centroids.to_vec();
        sorted.sort_by(f32::total_cmp);
        sorted.dedup();
        let zero = sorted.iter().position(|&c| c == 0.0);
        if keep.is_some() && zero.is_none() {
            invalid!("a masked weight needs zero among its centroids");
        }
        let middles: Vec<f32> = sorted.windows(2).map(|w| 0.5 * (w[0] + w[1])).collect();
        let flat = latent.f_detach()?.f_contiguous()?;
        let indices = flat.f_bucketize(&Tensor::from_slice(&middles), false, false)?;
        let indices = match (keep, zero) {
            (Some(keep), Some(zero)) => indices.f_masked_fill(&keep.f_eq(0)?, zero as i64)?,
            _ => indices,
        };
        Self::new(&Tensor::from_slice(&sorted), &indices, zero.filter(|_| keep.is_some()))
    }

    /// The shared values, float32 `[k]`; trainable.
    pub fn centroids(&self) -> &Tensor {
        &self.centroids
    }

    /// Replaces the centroids (same k) and keeps the assignments.
    pub fn set_centroids(&mut self, centroids: Tensor) -> OpResult<()> {
        if centroids.size() != self.centroids.size() {
            invalid!("{} centroids can't replace {}", centroids.numel(), self.centroids.numel());
        }
        self.centroids = centroids;
        Ok(())
    }

    /// The index of each weight's centroid, int64, of the weight's shape.
    pub fn indices(&self) -> &Tensor {
        &self.indices
    }

    /// The centroid that is kept at zero.
    pub fn zero(&self) -> Option<usize> {
        self.zero
    }

    /// The number of shared values.
    pub fn len(&self) -> usize {
        self.centroids.numel()
    }

    /// Never: a codebook has at least one centroid.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The shared value of every weight. Gradients reach the centroids as the sum over their cluster (Han et al., Deep
    /// Compression, 2016), and pass straight through to `latent`.
    pub fn apply(&self, latent: &Tensor) -> OpResult<Tensor> {
        let flat = self.indices.f_reshape([-1])?;
        let centroids = match self.zero {
            Some(zero) => {
                let others = self.centroids.f_ones_like()?.f_index_fill(0, &Tensor::from_slice(&[zero as i64]), 0.0)?;
                self.centroids.f_mul(&others)?
            }
            None => self.centroids.shallow_clone(),
        };
        let values = centroids.f_index_select(0, &flat)?.f_reshape(self.indices.size())?;
        if latent.requires_grad() { Ok(values.f_add(&latent.f_sub(&latent.f_detach()?)?)?) } else { Ok(values) }
    }

    /// What breaks the invariant in `effective`: more distinct values than centroids.
    pub fn broken(&self, effective: &Tensor) -> OpResult<Option<String>> {
        let distinct = distinct(effective)?;
        let k = self.len();
        Ok((distinct > k).then(|| format!("{distinct} distinct values, but the codebook has {k}")))
    }

    /// The codebook of the slices `keep` along `axis`.
    pub fn select(&self, axis: i64, keep: &Tensor) -> OpResult<Codebook> {
        Codebook::new(&self.centroids, &self.indices.f_index_select(axis, keep)?, self.zero)
    }

    /// The centroids that some weight uses, and the indices renumbered to them.
    pub fn used(&self) -> OpResult<(Vec<f32>, Vec<u32>)> {
        let mut centroids = to_f32s(&self.centroids)?;
        if let Some(zero) = self.zero {
            centroids[zero] = 0.0;
        }
        let indices = to_i64s(&self.indices)?;
        let mut seen = vec![false; centroids.len()];
        indices.iter().for_each(|&i| seen[i as usize] = true);
        let mut renumber = vec![0u32; centroids.len()];
        let mut kept = Vec::new();
        for (i, &c) in centroids.iter().enumerate() {
            if seen[i] {
                renumber[i] = kept.len() as u32;
                kept.push(c);
            }
        }
        Ok((kept, indices.iter().map(|&i| renumber[i as usize]).collect()))
    }

    /// A deep copy.
    pub fn copy(&self) -> Codebook {
        Codebook { centroids: self.centroids.detach().copy(), indices: self.indices.copy(), zero: self.zero }
    }
}

/// The number of distinct values.
fn distinct(values: &Tensor) -> OpResult<usize> {
    let (unique, _, _) = values.f_detach()?.f_internal_unique2(true, false, false)?;
    Ok(unique.numel())
}
