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
use crate::criteria::{Needs, SAMPLES, samples};

/// How much the loss would change, to first order, if the weight were zero: `|w * dL/dw|` (Molchanov et al., 2019). Costs a backward pass over
/// the samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Taylor {
    /// Training samples that gradients come from. Default: 2048.
    #[serde(default = "samples")]
    pub samples: usize,
}

impl Default for Taylor {
    fn default() -> Self {
        Self { samples: SAMPLES }
    }
}

impl Criterion for Taylor {
    fn needs(&self) -> Needs {
        Needs::Labels
    }

    fn gather(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        let samples = context.data.train.sample(self.samples, context.seed);
        Ok(saliency(model, context.data.task, &samples, &|what, done, all| context.progress(what, done, all))?)
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        seen.map_or_else(|| value.f_abs(), |term| Ok(term.shallow_clone()))
    }

    fn training_term(&self, value: &Tensor, gradient: &Tensor) -> Option<(Result<Tensor, TchError>, f64)> {
        Some((value.f_mul(gradient).and_then(|t| t.f_abs()), MEMORY))
    }
}
