//! A weight: a dense latent tensor seen through a chain of encodings.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::encoding::{Assignment, Codebook, Half, Mask, Quantizer};
use crate::error::{OpResult, invalid};
use crate::tensor::round_half;

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
    /// `mask`, `codebook` or `quantizer`.
    pub link: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// A weight. Its effective value is `quantizer(half(codebook(mask(latent))))`, with straight-through gradients; each link may be absent.
///
/// The order of the links is fixed whatever the order of the stages, so a stage that adds one can't break an earlier one:
/// training after pruning keeps zeros zero, quantizing after clustering keeps the number of distinct values.
#[derive(Debug)]
pub struct Weight {
    /// What it is for.
    pub role: Role,
    latent: Tensor,
    chain: Chain,
}

/// The links of a weight's encoding, in the order in which they apply.
#[derive(Debug, Default)]
pub struct Chain {
    /// Which elements are zero for good.
    pub mask: Option<Mask>,
    /// Which elements share values.
    pub codebook: Option<Codebook>,
    /// Values count in sixteen bits.
    pub half: Option<Half>,
    /// Which levels the values lie on.
    pub quantizer: Option<Quantizer>,
}

impl Weight {
    /// A plain weight.
    pub fn new(role: Role, latent: Tensor) -> Self {
        Self { role, latent, chain: Chain::default() }
    }

    /// A weight with its chain, as a checkpoint stores it.
    pub fn from_parts(role: Role, latent: Tensor, chain: Chain) -> Self {
        Self { role, latent, chain }
    }

    /// The dense tensor behind the chain.
    pub fn latent(&self) -> &Tensor {
        &self.latent
    }

    /// Which elements are zero for good.
    pub fn mask(&self) -> Option<&Mask> {
        self.chain.mask.as_ref()
    }

    /// Which elements share values.
    pub fn codebook(&self) -> Option<&Codebook> {
        self.chain.codebook.as_ref()
    }

    /// Which levels the values lie on.
    pub fn quantizer(&self) -> Option<&Quantizer> {
        self.chain.quantizer.as_ref()
    }

    /// The sixteen bits in which values count.
    pub fn half(&self) -> Option<Half> {
        self.chain.half
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
        self.chain.mask.is_some() || self.chain.codebook.is_some() || self.chain.half.is_some() || self.chain.quantizer.is_some()
    }

    /// The value that the graph sees; differentiable with respect to the leaves.
    pub fn effective(&self) -> OpResult<Tensor> {
        let mut value = self.latent.shallow_clone();
        if let Some(mask) = &self.chain.mask {
            value = mask.apply(&value)?;
        }
        if let Some(codebook) = &self.chain.codebook {
            value = codebook.apply(&value)?;
            // A vector's centroid knows nothing of which of its weights are pruned.
            if let (Some(mask), true) = (&self.chain.mask, codebook.dim() > 1) {
                value = mask.apply(&value)?;
            }
        }
        if let Some(half) = self.chain.half {
            value = round_half(&value, half)?;
        }
        if let Some(quantizer) = &self.chain.quantizer {
            value = quantizer.apply(&value)?;
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
        self.chain.codebook.as_mut()
    }

    /// Drops more weights: the new mask joins the one that is there. A codebook is kept and sends the dropped weights to zero.
    pub fn prune(&mut self, mask: Mask) -> OpResult<()> {
        if mask.keep().size() != self.size() {
            invalid!("a mask of shape {:?} does not fit a weight of shape {:?}", mask.keep().size(), self.size());
        }
        let mask = match &self.chain.mask {
            Some(old) => old.and(&mask)?,
            None => mask,
        };
        if let Some(codebook) = &mut self.chain.codebook {
            codebook.prune(mask.keep())?;
        }
        self.chain.mask = Some(mask);
        Ok(())
    }

    /// Shares values: sets or replaces the codebook.
    pub fn cluster(&mut self, codebook: Codebook) -> OpResult<()> {
        if codebook.indices().numel() * codebook.dim() != self.numel() {
            let (indices, d) = (codebook.indices().size(), codebook.dim());
            invalid!("a codebook of {indices:?} runs of {d} does not fit a weight of shape {:?}", self.size());
        }
        self.chain.codebook = Some(codebook);
        Ok(())
    }

    /// Counts values in sixteen bits from now on.
    pub fn to_half(&mut self, half: Half) {
        self.chain.half = Some(half);
    }

    /// Lets the weights choose their centroids anew, within the mask: see [`Codebook::reassign`]. No codebook, nothing to do.
    pub fn reassign(&mut self, how: &Assignment) -> OpResult<()> {
        let keep = self.chain.mask.as_ref().map(Mask::keep);
        self.chain.codebook.as_mut().map_or(Ok(()), |codebook| codebook.reassign(&self.latent, keep, how))
    }

    /// Puts the weight on a quantizer: sets or replaces it.
    pub fn quantize(&mut self, quantizer: Quantizer) -> OpResult<()> {
        let _fits = quantizer.apply(&self.latent.f_detach()?)?;
        self.chain.quantizer = Some(quantizer);
        Ok(())
    }

    /// The chain's quantizer, to train its scales in place.
    pub fn quantizer_mut(&mut self) -> Option<&mut Quantizer> {
        self.chain.quantizer.as_mut()
    }

    /// Takes the weight off its quantizer.
    pub fn drop_quantizer(&mut self) {
        self.chain.quantizer = None;
    }

    /// Keeps only the slices `keep` (int64 indices) along `axis`, in the latent tensor and in every link.
    pub fn select(&mut self, axis: i64, keep: &Tensor) -> OpResult<()> {
        self.latent = self.latent.f_detach()?.f_index_select(axis, keep)?;
        if let Some(mask) = &self.chain.mask {
            self.chain.mask = Some(mask.select(axis, keep)?);
        }
        if let Some(codebook) = &self.chain.codebook {
            self.chain.codebook = Some(codebook.select(axis, keep)?);
        }
        if let Some(quantizer) = &self.chain.quantizer {
            self.chain.quantizer = Some(quantizer.select(axis, keep)?);
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
        if let Some(mask) = &self.chain.mask
            && let Some(broken) = found("mask", mask.broken(&effective)?)
        {
            return Ok(Some(broken));
        }
        if let Some(codebook) = &self.chain.codebook
            && let Some(broken) = found("codebook", codebook.broken(&effective, self.chain.mask.as_ref().map(Mask::keep))?)
        {
            return Ok(Some(broken));
        }
        match &self.chain.quantizer {
            Some(quantizer) => Ok(found("quantizer", quantizer.broken(&effective)?)),
            None => Ok(None),
        }
    }

    /// The share of zeros in the effective value.
    pub fn sparsity(&self) -> OpResult<f64> {
        let zeros = self.effective()?.f_eq(0)?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        Ok(zeros as f64 / self.numel().max(1) as f64)
    }

    /// Bits of one stored symbol for each weight: an index into a codebook (shared by the weights of a vector), else an integer of a quantizer, else
    /// a float of 16 or 32 bits. Before entropy coding.
    pub fn bits(&self) -> f64 {
        match (&self.chain.codebook, self.chain.half, &self.chain.quantizer) {
            (Some(codebook), ..) => {
                let each = codebook.len() / codebook.tables().max(1);
                (each.max(2) as f64).log2().ceil() / codebook.dim().max(1) as f64
            }
            (None, _, Some(quantizer)) => f64::from(quantizer.bits()),
            (None, Some(_), None) => 16.0,
            (None, None, None) => 32.0,
        }
    }

    /// The chain in words: `mask 62% · codebook 16 · int8/channel`, or `float32`.
    pub fn describe(&self) -> OpResult<String> {
        let mut parts = Vec::new();
        if let Some(mask) = &self.chain.mask {
            parts.push(match mask.pattern() {
                Some(p) => format!("{}:{}", p.n, p.m),
                None => format!("mask {:.0}%", mask.sparsity()? * 100.0),
            });
        }
        if let Some(codebook) = &self.chain.codebook {
            let each = codebook.len() / codebook.tables();
            let vectors = if codebook.dim() > 1 { format!(" × {}", codebook.dim()) } else { String::new() };
            let reach = match (codebook.axis(), codebook.shared_name()) {
                (Some(_), _) => "/channel",
                (None, Some(_)) => ", shared",
                _ => "",
            };
            parts.push(format!("codebook {each}{vectors}{reach}"));
        }
        if let Some(half) = self.chain.half {
            parts.push(half.name().into());
        }
        if let Some(quantizer) = &self.chain.quantizer {
            parts.push(quantizer.params()?.describe());
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
            chain: Chain {
                mask: self.chain.mask.as_ref().map(Mask::copy),
                codebook: self.chain.codebook.as_ref().map(Codebook::copy),
                half: self.chain.half,
                quantizer: self.chain.quantizer.as_ref().map(Quantizer::copy),
            },
        }
    }
}
