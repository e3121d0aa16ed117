//! The codebook: weights that share a few values.

use half::f16;
use tch::{Kind, Tensor};

use super::half::Half;
use crate::error::{OpResult, invalid};
use crate::tensor::{round_half, to_f32s, to_i64s};

/// Shared values: a table of centroids and, for every weight or run of weights, the index of its centroid. Centroids count as float16.
///
/// A centroid is a scalar, or a vector of `d` weights that follow each other in memory (product quantization). A weight has one table,
/// or one for each index of an axis; several weights may share a table by its name.
#[derive(Debug)]
pub struct Codebook {
    /// float32 `[tables * k, d]`.
    centroids: Tensor,
    /// int64 rows of `centroids`: of the weight's shape, or `[rows, weights of a row / d]` for vectors.
    indices: Tensor,
    /// Centroids that stay zero while the others are trained: those of pruned weights.
    pinned: Vec<usize>,
    /// The axis along which each index has a table of its own.
    axis: Option<usize>,
    /// The name of the table that several weights share.
    shared: Option<String>,
}

/// What each centroid costs when weights choose theirs (entropy-constrained vector quantization; Chou, Lookabaugh and Gray, 1989).
#[derive(Debug)]
pub struct Assignment<'a> {
    /// Importance of each weight's squared error, of the weight's shape; `None` counts all alike.
    pub importance: Option<&'a Tensor>,
    /// Cost of one bit, in squared error times importance.
    pub bit: f64,
}

impl Codebook {
    /// From centroids (float32, `[k]` or `[k, d]`), indices (integers, each below k), and the centroids that are kept at zero.
    pub fn new(centroids: &Tensor, indices: &Tensor, pinned: Vec<usize>) -> OpResult<Self> {
        let centroids = match centroids.dim() {
            1 => centroids.f_unsqueeze(1)?,
            2 => centroids.shallow_clone(),
            _ => invalid!("a codebook needs centroids of shape [k] or [k, d], not {:?}", centroids.size()),
        };
        let k = centroids.size()[0];
        if centroids.numel() == 0 {
            invalid!("a codebook needs centroids, not a tensor of shape {:?}", centroids.size());
        }
        let indices = indices.f_to_kind(Kind::Int64)?.f_contiguous()?;
        if indices.numel() > 0 && (indices.f_min()?.f_int64_value(&[])? < 0 || indices.f_max()?.f_int64_value(&[])? >= k) {
            invalid!("a codebook index lies outside its {k} centroids");
        }
        if pinned.iter().any(|&z| z >= k as usize) {
            invalid!("a zero centroid lies outside the {k} centroids");
        }
        let centroids = centroids.f_detach()?.f_to_kind(Kind::Float)?.f_contiguous()?;
        Ok(Self { centroids, indices, pinned, axis: None, shared: None })
    }

    /// The same codebook as one table for each index of `axis`: the centroids are the tables one after the other.
    pub fn by_channel(mut self, axis: usize) -> OpResult<Self> {
        let channels = self.indices.size().get(axis).copied().unwrap_or(0);
        if self.dim() != 1 || channels == 0 || self.len() as i64 % channels != 0 {
            invalid!("{} centroids are not one table for each of {channels} channels", self.len());
        }
        self.axis = Some(axis);
        Ok(self)
    }

    /// The same codebook under the name of a table that other weights share too.
    pub fn shared(mut self, name: Option<String>) -> Self {
        self.shared = name;
        self
    }

    /// The same scalar codebook with every centroid that is zero kept there, whatever the gradients say.
    pub fn pin_zero(mut self) -> OpResult<Self> {
        if self.dim() == 1 {
            let centroids = to_f32s(&self.centroids)?;
            self.pinned = (0..centroids.len()).filter(|&i| centroids[i] == 0.0).collect();
        }
        Ok(self)
    }

    /// Each latent weight takes the nearest of `centroids`; those that `keep` drops take the centroid zero, which must exist.
    pub fn assign(centroids: &[f32], latent: &Tensor, keep: Option<&Tensor>) -> OpResult<Self> {
        if centroids.is_empty() || centroids.iter().any(|c| !c.is_finite()) {
            invalid!("a codebook needs at least one centroid, all finite");
        }
        let mut sorted: Vec<f32> = centroids.iter().map(|&c| f16::from_f32(c).to_f32()).collect();
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
        Self::new(&Tensor::from_slice(&sorted), &indices, zero.filter(|_| keep.is_some()).into_iter().collect())
    }

    /// The centroids, float32 `[tables * k, d]`; trainable.
    pub fn centroids(&self) -> &Tensor {
        &self.centroids
    }

    /// Replaces the centroids (same shape) and keeps the assignments.
    pub fn set_centroids(&mut self, centroids: Tensor) -> OpResult<()> {
        if centroids.size() != self.centroids.size() {
            invalid!("centroids {:?} can't replace {:?}", centroids.size(), self.centroids.size());
        }
        self.centroids = centroids;
        Ok(())
    }

    /// The row of each weight's (or run's) centroid, int64.
    pub fn indices(&self) -> &Tensor {
        &self.indices
    }

    /// The number of centroids, of all tables together.
    pub fn len(&self) -> usize {
        self.centroids.size()[0] as usize
    }

    /// Never: a codebook has at least one centroid.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Weights to a centroid: 1, or the length of the vectors.
    pub fn dim(&self) -> usize {
        self.centroids.size()[1] as usize
    }

    /// The centroids that are kept at zero.
    pub fn pinned(&self) -> &[usize] {
        &self.pinned
    }

    /// The axis along which each index has a table of its own.
    pub fn axis(&self) -> Option<usize> {
        self.axis
    }

    /// The name of the table that other weights share too.
    pub fn shared_name(&self) -> Option<&str> {
        self.shared.as_deref()
    }

    /// The number of tables.
    pub fn tables(&self) -> usize {
        self.axis.map_or(1, |a| self.indices.size()[a] as usize)
    }

    /// The centroids as they count: float16, zero where they are pinned. Differentiable.
    fn values(&self) -> OpResult<Tensor> {
        let rounded = round_half(&self.centroids, Half::Float16)?;
        if self.pinned.is_empty() {
            return Ok(rounded);
        }
        let pinned: Vec<i64> = self.pinned.iter().map(|&p| p as i64).collect();
        Ok(rounded.f_index_fill(0, &Tensor::from_slice(&pinned), 0.0)?)
    }

    /// The shared values, of the latent's shape. Gradients reach the centroids (summed over each cluster) and, straight through, the
    /// latent.
    pub fn apply(&self, latent: &Tensor) -> OpResult<Tensor> {
        let values = self.values()?.f_index_select(0, &self.indices.f_reshape([-1])?)?.f_reshape(latent.size())?;
        if latent.requires_grad() { Ok(values.f_add(&latent.f_sub(&latent.f_detach()?)?)?) } else { Ok(values) }
    }

    /// Sends the weights that `keep` drops to a centroid at zero. The number of centroids stays: where none is pinned yet, the one
    /// nearest to zero becomes zero. Vectors are left to the mask itself.
    pub fn prune(&mut self, keep: &Tensor) -> OpResult<()> {
        if self.dim() != 1 {
            return Ok(());
        }
        let (tables, k) = (self.tables(), self.len() / self.tables());
        if self.pinned.is_empty() {
            let nearest = round_half(&self.centroids.f_detach()?, Half::Float16)?
                .f_abs()?
                .f_reshape([tables as i64, k as i64])?
                .f_argmin(1, false)?;
            self.pinned = to_i64s(&nearest)?.iter().enumerate().map(|(t, &i)| t * k + i as usize).collect();
        }
        let zeros = Tensor::from_slice(&self.pinned.iter().map(|&p| p as i64).collect::<Vec<_>>());
        let mut shape = vec![1; self.indices.dim()];
        if let Some(axis) = self.axis {
            shape[axis] = -1;
        }
        self.indices = self.indices.f_where_self(&keep.f_ne(0)?, &zeros.f_reshape(&shape[..])?)?.f_contiguous()?;
        Ok(())
    }

    /// Lets every weight choose its centroid anew: the one of least `importance * (latent - centroid)^2 + bit * bits`, where a centroid
    /// costs as many bits as its share says. What `keep` drops stays at zero. Scalars and one table only.
    pub fn reassign(&mut self, latent: &Tensor, keep: Option<&Tensor>, how: &Assignment) -> OpResult<()> {
        if self.dim() != 1 || self.axis.is_some() {
            invalid!("only scalar codebooks of one table can be assigned anew");
        }
        let values = to_f32s(&self.values()?.f_detach()?)?;
        let latent = latent.f_detach()?;
        let mut counts = vec![1.0f64; values.len()];
        if how.bit > 0.0 {
            let found = self.indices.f_reshape([-1])?.f_bincount(None::<&Tensor>, values.len() as i64)?;
            counts = to_i64s(&found)?.into_iter().map(|c| c as f64 + 0.5).collect();
        }
        let total: f64 = counts.iter().sum();
        let mut best: Option<(Tensor, Tensor)> = None;
        for (i, (&value, count)) in values.iter().zip(&counts).enumerate() {
            let error = latent.f_sub_scalar(value as f64)?.f_square()?;
            let error = how.importance.map_or(Ok(error.shallow_clone()), |h| error.f_mul(h))?;
            let cost = error.f_add_scalar(how.bit * (total / count).log2())?;
            best = Some(match best {
                None => (cost, Tensor::f_full_like(&self.indices, i as i64)?),
                Some((least, indices)) => {
                    let better = cost.f_lt_tensor(&least)?;
                    (least.f_minimum(&cost)?, indices.f_masked_fill(&better, i as i64)?)
                }
            });
        }
        if let Some((_, indices)) = best {
            self.indices = indices;
        }
        keep.map_or(Ok(()), |keep| self.prune(keep))
    }

    /// What breaks the invariant in `effective`: more distinct values (or vectors) than centroids, in any table. `keep` is the mask over
    /// vectors.
    pub fn broken(&self, effective: &Tensor, keep: Option<&Tensor>) -> OpResult<Option<String>> {
        let effective = effective.f_detach()?;
        let k = self.len() / self.tables();
        let message = |n: usize| format!("{n} distinct values, but the codebook has {k}");
        if self.dim() > 1 {
            if keep.is_some() {
                // Masked vectors differ by their masks; what is left must be the centroids' own.
                return Ok(None);
            }
            let rows = effective.f_reshape([-1, self.dim() as i64])?;
            let (unique, _, _) = rows.f_unique_dim(0, true, false, false)?;
            let n = unique.size()[0] as usize;
            return Ok((n > k).then(|| message(n)));
        }
        let parts = match self.axis {
            Some(axis) => effective.f_unbind(axis as i64)?,
            None => vec![effective],
        };
        for part in parts {
            let n = distinct(&part)?;
            if n > k {
                return Ok(Some(message(n)));
            }
        }
        Ok(None)
    }

    /// The codebook of the slices `keep` along `axis`. Vectors can only lose whole rows.
    pub fn select(&self, axis: i64, keep: &Tensor) -> OpResult<Codebook> {
        let mut indices = self.indices.shallow_clone();
        let (mut centroids, mut pinned) = (self.centroids.shallow_clone(), self.pinned.clone());
        if self.dim() > 1 && axis != 0 {
            invalid!(
                "vectors of {} weights can't lose single ones: prune channels before the weight gets vector centroids",
                self.dim()
            );
        }
        if self.axis == Some(axis as usize) {
            let k = (self.len() / self.tables()) as i64;
            let chosen = to_i64s(keep)?;
            let rows: Vec<i64> = chosen.iter().flat_map(|&t| (0..k).map(move |i| t * k + i)).collect();
            centroids = centroids.f_index_select(0, &Tensor::from_slice(&rows))?;
            pinned = rows.iter().enumerate().filter(|(_, r)| self.pinned.contains(&(**r as usize))).map(|(i, _)| i).collect();
            let mut shape = vec![1; indices.dim()];
            shape[axis as usize] = -1;
            let shift: Vec<i64> = chosen.iter().enumerate().map(|(new, old)| (new as i64 - old) * k).collect();
            indices = indices.f_index_select(axis, keep)?.f_add(&Tensor::from_slice(&shift).f_reshape(&shape[..])?)?;
        } else {
            indices = indices.f_index_select(axis, keep)?;
        }
        let chosen = Codebook::new(&centroids, &indices, pinned)?.shared(self.shared.clone());
        match self.axis {
            Some(axis) => chosen.by_channel(axis),
            None => Ok(chosen),
        }
    }

    /// The centroids that some weight uses (float32 `[rows * d]`, exactly as they count), and the indices renumbered to them.
    pub fn used(&self) -> OpResult<(Vec<f32>, Vec<u32>)> {
        let d = self.dim();
        let (centroids, indices) = self.whole()?;
        let mut seen = vec![false; centroids.len() / d];
        indices.iter().for_each(|&i| seen[i as usize] = true);
        let mut renumber = vec![0u32; seen.len()];
        let mut kept = Vec::new();
        for (i, row) in centroids.chunks_exact(d).enumerate().filter(|(i, _)| seen[*i]) {
            renumber[i] = (kept.len() / d) as u32;
            kept.extend(row);
        }
        Ok((kept, indices.iter().map(|&i| renumber[i as usize]).collect()))
    }

    /// All centroids (float32 `[rows * d]`, exactly as they count), and the indices of their rows.
    pub fn whole(&self) -> OpResult<(Vec<f32>, Vec<u32>)> {
        let indices = to_i64s(&self.indices)?.into_iter().map(|i| i as u32).collect();
        Ok((to_f32s(&self.values()?.f_detach()?)?, indices))
    }

    /// A deep copy.
    pub fn copy(&self) -> Codebook {
        Codebook {
            centroids: self.centroids.detach().copy(),
            indices: self.indices.copy(),
            pinned: self.pinned.clone(),
            axis: self.axis,
            shared: self.shared.clone(),
        }
    }
}

/// The number of distinct values.
fn distinct(values: &Tensor) -> OpResult<usize> {
    let (unique, _, _) = values.f_detach()?.f_internal_unique2(true, false, false)?;
    Ok(unique.numel())
}
