//! Where a value can lie: boxes and zonotopes of the inputs' symbols (Stolfi and de Figueiredo, 1997). In float64.

use sinter_model::OpResult;
use tch::{Kind, Tensor};

/// Where a value can lie: in a box, and on a zonotope of the inputs' symbols with a radius of its own.
#[derive(Debug)]
pub(crate) struct Zone {
    /// `[1, ...]`.
    pub low: Tensor,
    /// `[1, ...]`.
    pub high: Tensor,
    pub affine: Option<Affine>,
}

/// `centre + generators · symbols ± radius`, each symbol between -1 and 1.
#[derive(Debug)]
pub(crate) struct Affine {
    pub centre: Tensor,
    /// `[symbols, ...]`.
    pub generators: Tensor,
    pub radius: Tensor,
}

impl Affine {
    /// How far from the centre it reaches.
    pub fn reach(&self) -> OpResult<Tensor> {
        Ok(self.generators.f_abs()?.f_sum_dim_intlist([0i64].as_slice(), true, Kind::Double)?.f_add(&self.radius)?)
    }

    /// The form, if its symbols still have the first axis to themselves: an operator that moved the batch, or that mixed it with other axes, took
    /// them for data.
    pub fn apart(self, symbols: i64) -> Option<Self> {
        let (centre, generators) = (self.centre.size(), self.generators.size());
        let apart = centre.first() == Some(&1) && generators.first() == Some(&symbols) && centre[1..] == generators[1..];
        apart.then_some(self)
    }

    /// With another of the same symbols, times a sign; `None` where one is broadcast along the symbols.
    pub fn plus(&self, other: &Self, sign: f64) -> OpResult<Option<Self>> {
        let symbols = self.generators.size()[0];
        if self.centre.dim() != other.centre.dim() || other.generators.size()[0] != symbols {
            return Ok(None);
        }
        let sum = Self {
            centre: self.centre.f_add(&other.centre.f_mul_scalar(sign)?)?,
            generators: self.generators.f_add(&other.generators.f_mul_scalar(sign)?)?,
            radius: self.radius.f_add(&other.radius)?,
        };
        Ok(sum.apart(symbols))
    }

    pub fn copy(&self) -> Self {
        Self {
            centre: self.centre.shallow_clone(),
            generators: self.generators.shallow_clone(),
            radius: self.radius.shallow_clone(),
        }
    }
}

impl Zone {
    pub fn interval(low: Tensor, high: Tensor) -> Self {
        Self { low, high, affine: None }
    }

    /// With an affine form, each bound the better of both.
    pub fn refined(low: Tensor, high: Tensor, affine: Option<Affine>) -> OpResult<Self> {
        let Some(form) = affine else { return Ok(Self::interval(low, high)) };
        let reach = form.reach()?;
        Ok(Self {
            low: low.f_maximum(&form.centre.f_sub(&reach)?)?,
            high: high.f_minimum(&form.centre.f_add(&reach)?)?,
            affine: Some(form),
        })
    }

    pub fn middle(&self) -> OpResult<(Tensor, Tensor)> {
        let radius = self.high.f_sub(&self.low)?.f_mul_scalar(0.5)?.f_clamp_min(0.0)?;
        Ok((self.low.f_add(&radius)?, radius))
    }

    /// The largest magnitude of each element.
    pub fn magnitude(&self) -> OpResult<Tensor> {
        Ok(self.low.f_abs()?.f_maximum(&self.high.f_abs()?)?)
    }
}
