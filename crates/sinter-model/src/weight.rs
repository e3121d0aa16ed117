//! A weight: a dense latent tensor seen through a chain of encodings.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::encoding::{Codebook, Grid, Mask};
use crate::error::{OpResult, invalid};

/// What a stored tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Trained by gradient.
    Parameter,
    /// Updated by running, not by gradient: the statistics of batch normalisation.
    Statistic,
    /// Part of the computation itself: shapes, axes, fixed factors.
    Constant,
}

/// An invariant of an encoding that no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenLink {
    /// `mask`, `codebook` or `grid`.
    pub link: &'static str,
    pub what: String,
}

/// A weight. Its effective value is `grid(codebook(mask(latent)))`, with straight-through gradients.
///
/// The order of the links is fixed whatever the order of the stages, so a stage that adds one can't break an earlier one:
/// training after pruning keeps zeros zero, quantizing after clustering keeps the number of distinct values.
#[derive(Debug)]
pub struct Weight {
    pub role: Role,
    latent: Tensor,
    mask: Option<Mask>,
    codebook: Option<Codebook>,
    grid: Option<Grid>,
}

impl Weight {
    /// A plain weight.
    pub fn new(role: Role, latent: Tensor) -> Self {
        Self { role, latent, mask: None, codebook: None, grid: None }
    }

    /// A weight with its chain, as a checkpoint stores it.
    pub fn from_parts(role: Role, latent: Tensor, mask: Option<Mask>, codebook: Option<Codebook>, grid: Option<Grid>) -> Self {
        Self { role, latent, mask, codebook, grid }
    }

    /// The dense tensor behind the chain.
    pub fn latent(&self) -> &Tensor {
        &self.latent
    }

    pub fn mask(&self) -> Option<&Mask> {
        self.mask.as_ref()
    }

    pub fn codebook(&self) -> Option<&Codebook> {
        self.codebook.as_ref()
    }

    pub fn grid(&self) -> Option<&Grid> {
        self.grid.as_ref()
    }

    /// The weight's shape.
    pub fn size(&self) -> Vec<i64> {
        self.latent.size()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.latent.numel()
    }

    /// Whether any encoding is set.
    pub fn is_encoded(&self) -> bool {
        self.mask.is_some() || self.codebook.is_some() || self.grid.is_some()
    }

    /// The value that the graph sees; differentiable with respect to the leaves.
    pub fn effective(&self) -> OpResult<Tensor> {
        let mut value = self.latent.shallow_clone();
        if let Some(mask) = &self.mask {
            value = mask.apply(&value)?;
        }
        if let Some(codebook) = &self.codebook {
            value = codebook.apply(&value)?;
        }
        if let Some(grid) = &self.grid {
            value = grid.apply(&value)?;
        }
        Ok(value)
    }

    /// Replaces the latent tensor (same shape) and keeps the chain.
    pub fn set_latent(&mut self, latent: Tensor) -> OpResult<()> {
        if latent.size() != self.latent.size() {
            invalid!("a tensor of shape {:?} can't replace a weight of shape {:?}", latent.size(), self.latent.size());
        }
        self.latent = latent;
        Ok(())
    }

    /// The chain's centroids, to train them in place.
    pub fn codebook_mut(&mut self) -> Option<&mut Codebook> {
        self.codebook.as_mut()
    }

    /// Drops more weights: the new mask joins the one that is there. A codebook is kept and sends the dropped weights to zero.
    pub fn prune(&mut self, mask: Mask) -> OpResult<()> {
        if mask.keep().size() != self.size() {
            invalid!("a mask of shape {:?} does not fit a weight of shape {:?}", mask.keep().size(), self.size());
        }
        let mask = match &self.mask {
            Some(old) => old.and(&mask)?,
            None => mask,
        };
        if let Some(codebook) = &self.codebook {
            let mut centroids = crate::to_f32s(codebook.centroids())?;
            if !centroids.contains(&0.0) {
                // The number of distinct values may not grow: the centroid nearest to zero becomes zero.
                if let Some(nearest) = centroids.iter_mut().min_by(|a, b| a.abs().total_cmp(&b.abs())) {
                    *nearest = 0.0;
                }
            }
            let value = codebook.apply(&self.latent.f_detach()?)?;
            self.codebook = Some(Codebook::assign(&centroids, &value, Some(mask.keep()))?);
        }
        self.mask = Some(mask);
        Ok(())
    }

    /// Shares values: sets or replaces the codebook.
    pub fn cluster(&mut self, codebook: Codebook) -> OpResult<()> {
        if codebook.indices().size() != self.size() {
            invalid!("a codebook of shape {:?} does not fit a weight of shape {:?}", codebook.indices().size(), self.size());
        }
        self.codebook = Some(codebook);
        Ok(())
    }

    /// Puts the weight on a grid: sets or replaces it.
    pub fn quantize(&mut self, grid: Grid) -> OpResult<()> {
        let _fits = grid.apply(&self.latent.f_detach()?)?;
        self.grid = Some(grid);
        Ok(())
    }

    /// Takes the weight off its grid.
    pub fn drop_grid(&mut self) {
        self.grid = None;
    }

    /// Keeps only the slices `keep` (int64 indices) along `axis`, in the latent tensor and in every link.
    pub fn select(&mut self, axis: i64, keep: &Tensor) -> OpResult<()> {
        self.latent = self.latent.f_detach()?.f_index_select(axis, keep)?;
        if let Some(mask) = &self.mask {
            self.mask = Some(mask.select(axis, keep)?);
        }
        if let Some(codebook) = &self.codebook {
            self.codebook = Some(codebook.select(axis, keep)?);
        }
        if let Some(grid) = &self.grid {
            self.grid = Some(grid.select(axis, keep)?);
        }
        Ok(())
    }

    /// Every invariant of the chain, checked on the effective value. A NaN breaks them all.
    pub fn check(&self) -> OpResult<Option<BrokenLink>> {
        if self.role == Role::Constant {
            return Ok(None);
        }
        let effective = self.effective()?.f_detach()?;
        if effective.is_floating_point() && !effective.f_isfinite()?.f_all()?.f_int64_value(&[]).is_ok_and(|v| v != 0) {
            return Ok(Some(BrokenLink { link: "latent", what: "it holds NaN or infinity".into() }));
        }
        let found = |link, what: Option<String>| what.map(|what| BrokenLink { link, what });
        if let Some(mask) = &self.mask
            && let Some(broken) = found("mask", mask.broken(&effective)?)
        {
            return Ok(Some(broken));
        }
        if let Some(codebook) = &self.codebook
            && let Some(broken) = found("codebook", codebook.broken(&effective)?)
        {
            return Ok(Some(broken));
        }
        match &self.grid {
            Some(grid) => Ok(found("grid", grid.broken(&effective)?)),
            None => Ok(None),
        }
    }

    /// The share of zeros in the effective value.
    pub fn sparsity(&self) -> OpResult<f64> {
        let zeros = self.effective()?.f_eq(0)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok(zeros as f64 / self.numel().max(1) as f64)
    }

    /// The chain in words: `mask 62% · codebook 16 · int8/channel`, or `float32`.
    pub fn describe(&self) -> OpResult<String> {
        let mut parts = Vec::new();
        if let Some(mask) = &self.mask {
            parts.push(match mask.pattern() {
                Some(p) => format!("{}:{}", p.n, p.m),
                None => format!("mask {:.0}%", mask.sparsity()? * 100.0),
            });
        }
        if let Some(codebook) = &self.codebook {
            parts.push(format!("codebook {}", codebook.len()));
        }
        if let Some(grid) = &self.grid {
            parts.push(grid.describe());
        }
        if parts.is_empty() {
            parts.push(format!("{}32", crate::kind_name(self.latent.kind())).replace("int6432", "int64"));
        }
        Ok(parts.join(" · "))
    }

    /// A deep copy, with no gradients attached.
    pub fn copy(&self) -> Weight {
        Weight {
            role: self.role,
            latent: self.latent.detach().copy(),
            mask: self.mask.as_ref().map(Mask::copy),
            codebook: self.codebook.as_ref().map(Codebook::copy),
            grid: self.grid.as_ref().map(Grid::copy),
        }
    }
}
