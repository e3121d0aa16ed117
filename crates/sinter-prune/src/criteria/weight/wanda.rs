//! Magnitude times the norm of the input.

use std::collections::BTreeMap;

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::input_norms;
use sinter_model::Model;
use sinter_train::{Context, StageError};
use tch::{TchError, Tensor};

use super::Criterion;
use crate::criteria::{Needs, SAMPLES, samples};

/// Magnitude times the norm of the weight's input, within each output channel (Wanda; Sun et al., 2023). For large models that are not
/// fine-tuned afterwards. Costs a forward pass over the samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanda {
    /// Training samples that input norms come from. Default: 2048.
    #[serde(default = "samples")]
    pub samples: usize,
}

impl Default for Wanda {
    fn default() -> Self {
        Self { samples: SAMPLES }
    }
}

impl Criterion for Wanda {
    fn needs(&self) -> Needs {
        Needs::Samples
    }

    fn gather(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        let samples = context.data.train.sample(self.samples, context.seed);
        Ok(input_norms(model, &samples, &|what, done, all| context.progress(what, done, all))?)
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        let magnitude = value.f_abs()?;
        seen.map_or_else(|| Ok(magnitude.shallow_clone()), |norms| magnitude.f_mul(norms))
    }

    fn by_row(&self) -> bool {
        true
    }
}
