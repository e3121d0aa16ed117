//! The mask: which weights are kept.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{OpResult, invalid};

/// At most `n` non-zeros in each run of `m` along `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NmPattern {
    /// Kept of each run.
    pub n: usize,
    /// The length of a run.
    pub m: usize,
    /// Along which axis runs go.
    pub axis: usize,
}

/// Zeros that stay zero.
#[derive(Debug)]
pub struct Mask {
    keep: Tensor,
    pattern: Option<NmPattern>,
}

impl Mask {
    /// A mask from a tensor of zeros and ones (any kind), with the pattern that it claims to follow.
    pub fn new(keep: &Tensor, pattern: Option<NmPattern>) -> OpResult<Self> {
        let keep = keep.f_detach()?.f_ne(0)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        if let Some(p) = pattern
            && (p.n == 0 || p.m < p.n || p.axis >= keep.dim())
        {
            invalid!("{}:{} along axis {} is not a pattern for a weight of shape {:?}", p.n, p.m, p.axis, keep.size());
        }
        Ok(Self { keep, pattern })
    }

    /// Ones where the weight is kept, else zeros; float32, of the weight's shape.
    pub fn keep(&self) -> &Tensor {
        &self.keep
    }

    /// The N:M pattern, if there is one.
    pub fn pattern(&self) -> Option<NmPattern> {
        self.pattern
    }

    /// The share of zeros.
    pub fn sparsity(&self) -> OpResult<f64> {
        let total = self.keep.numel().max(1) as f64;
        Ok(1.0 - self.keep.f_sum(Kind::Double)?.f_double_value(&[])? / total)
    }

    /// Both masks at once: what either drops is dropped. A pattern survives, as dropping more can't break it.
    pub fn and(&self, other: &Mask) -> OpResult<Mask> {
        let keep = self.keep.f_mul(&other.keep)?;
        Mask::new(&keep, other.pattern.or(self.pattern))
    }

    /// The latent weight with the dropped elements at zero.
    pub fn apply(&self, latent: &Tensor) -> OpResult<Tensor> {
        Ok(latent.f_mul(&self.keep)?)
    }

    /// What breaks the invariant in `effective`: a non-zero where the mask is zero, or too many in a run.
    pub fn broken(&self, effective: &Tensor) -> OpResult<Option<String>> {
        let nonzero = effective.f_detach()?.f_ne(0)?;
        let dropped = self.keep.f_eq(0)?;
        let leaks = nonzero.f_logical_and(&dropped)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        if leaks > 0 {
            return Ok(Some(format!("{leaks} pruned weights are no longer zero")));
        }
        if let Some(p) = self.pattern {
            let worst = most_per_run(&nonzero.f_to_kind(Kind::Float)?, p)?;
            if worst > p.n as i64 {
                return Ok(Some(format!("a run of {} holds {worst} non-zeros, {}:{} allows {}", p.m, p.n, p.m, p.n)));
            }
        }
        Ok(None)
    }

    /// The mask of the slices `keep` along `axis`. Removing part of an N:M axis shifts the runs, so the pattern is dropped there.
    pub fn select(&self, axis: i64, keep: &Tensor) -> OpResult<Mask> {
        let selected = self.keep.f_index_select(axis, keep)?;
        let pattern = match self.pattern {
            Some(p) if p.axis == axis as usize && most_per_run(&selected, p)? > p.n as i64 => None,
            pattern => pattern,
        };
        Mask::new(&selected, pattern)
    }

    /// A deep copy.
    pub fn copy(&self) -> Mask {
        Mask { keep: self.keep.copy(), pattern: self.pattern }
    }
}

/// The largest number of ones in any run of `m` along the pattern's axis; a shorter last run counts too.
fn most_per_run(ones: &Tensor, p: NmPattern) -> OpResult<i64> {
    let len = ones.size()[p.axis];
    let m = p.m as i64;
    let rows = ones.f_movedim_int(p.axis as i64, -1)?.f_reshape([-1, len])?;
    let padded = rows.f_constant_pad_nd([0, (m - len % m) % m])?;
    let runs = padded.f_reshape([-1, m])?.f_sum_dim_intlist(1, false, Kind::Float)?;
    Ok(if runs.numel() == 0 { 0 } else { runs.f_max()?.f_double_value(&[])? as i64 })
}
