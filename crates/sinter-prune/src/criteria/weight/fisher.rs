//! Second-order change of the loss by a diagonal.

use std::collections::BTreeMap;

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::fisher;
use sinter_model::Model;
use sinter_train::{Context, StageError};
use tch::{TchError, Tensor};

use super::{Criterion, MEMORY};
use crate::criteria::{Needs, Samples};

/// How much the loss would change, to second order, if the weight were zero, by the diagonal of the Fisher matrix (LeCun et al., Optimal Brain
/// Damage, 1990). Costs a backward pass over the samples in small batches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fisher {
    /// Training samples that gradients come from. Default: 2048.
    pub samples: Samples,
}

impl Criterion for Fisher {
    fn needs(&self) -> Needs {
        Needs::Labels
    }

    fn gather(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        Ok(fisher(model, context.data.task, &self.samples.draw(context), &context.reporter())?)
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        seen.map_or_else(|| value.f_abs(), |fisher| value.f_square()?.f_mul(fisher))
    }

    fn training_term(&self, _value: &Tensor, gradient: &Tensor) -> Option<(Result<Tensor, TchError>, f64)> {
        Some((gradient.f_square(), MEMORY))
    }
}
