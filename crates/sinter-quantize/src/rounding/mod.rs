//! How weights are rounded, one file a method.
//!
//! To add one: a file with a documented struct of its options that implements [`RoundingMethod`], and one line in the list below.

pub mod gptq;
mod learned;
mod nearest;

use std::fmt::Debug;

use sinter_data::Split;
use sinter_model::{Layer, Model, OpResult, Quantizer};
use sinter_train::{Context, StageError};
use tch::Tensor;

/// A way to round weights. What does nothing rounds to nearest.
pub trait RoundingMethod: Debug + Send + Sync {
    /// Whether the second moments of what the weight multiplies are wanted, its Hessian.
    fn wants_columns(&self) -> bool {
        false
    }

    /// Whether it wants them of what the rounded layers before give, where weights alone are quantized.
    fn is_sequential(&self) -> bool {
        false
    }

    /// Whether it then wants what the float layers before give beside that.
    fn wants_float(&self) -> bool {
        false
    }

    /// A layer's weight rounded, of its shape; `value` is the weight, `hessian` `[fan-in, fan-in]`. `None` for rounding to nearest.
    fn round(&self, _layer: &Layer, _value: &Tensor, _quantizer: &Quantizer, _hessian: &Tensor) -> OpResult<Option<Tensor>> {
        Ok(None)
    }

    /// Whether it decides when all of the model is quantized.
    fn decides_last(&self) -> bool {
        false
    }

    /// Rounds the weights of these layers anew, in a model that is quantized throughout; `float` is the model before.
    fn decide(
        &self,
        _model: &mut Model,
        _float: &Model,
        _layers: &[Layer],
        _samples: &Split,
        _context: &Context,
    ) -> Result<(), StageError> {
        Ok(())
    }
}

sinter_model::choices! {
    /// How weights are rounded.
    pub enum Rounding: dyn RoundingMethod {
        "nearest" => Nearest(nearest::Nearest),
        "gptq" => Gptq(gptq::Gptq),
        "learned" => Learned(learned::Learned),
    }
    default Nearest
}

/// The most weights of a model whose rounding is learned unless the user says so.
const LEARNED: usize = 1 << 20;

impl Rounding {
    /// The method for weights of fewer than 8 bits where the user names none, in a model of so many weights.
    pub(crate) fn below_eight_bits(weights: usize) -> Self {
        if weights <= LEARNED { Self::Learned(learned::Learned::default()) } else { Self::Gptq(gptq::Gptq::default()) }
    }
}
