//! First-order change of the loss.

use std::collections::BTreeMap;

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::saliency;
use sinter_model::Model;
use sinter_train::{Context, StageError};
use tch::{TchError, Tensor};

use super::{Criterion, MEMORY};
use crate::criteria::{Needs, Samples};

/// How much the loss would change, to first order, if the weight were zero: `|w * dL/dw|` (Molchanov et al., 2019). Costs a backward pass over
/// the samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Taylor {
    /// Training samples that gradients come from. Default: 2048.
    pub samples: Samples,
}

impl Criterion for Taylor {
    fn needs(&self) -> Needs {
        Needs::Labels
    }

    fn gather(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        Ok(saliency(model, context.data.task, &self.samples.draw(context), &context.reporter())?)
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        seen.map_or_else(|| value.f_abs(), |term| Ok(term.shallow_clone()))
    }

    fn training_term(&self, value: &Tensor, gradient: &Tensor) -> Option<(Result<Tensor, TchError>, f64)> {
        Some((value.f_mul(gradient).and_then(|t| t.f_abs()), MEMORY))
    }
}
