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
use crate::criteria::{Needs, Samples};

/// Magnitude times the norm of the weight's input, within each output channel (Wanda; Sun et al., 2023). For large models that are not
/// fine-tuned afterwards. Costs a forward pass over the samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanda {
    /// Training samples that input norms come from. Default: 2048.
    pub samples: Samples,
}

impl Criterion for Wanda {
    fn needs(&self) -> Needs {
        Needs::Samples
    }

    fn gather(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        Ok(input_norms(model, &self.samples.draw(context), &context.reporter())?)
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        let magnitude = value.f_abs()?;
        seen.map_or_else(|| Ok(magnitude.shallow_clone()), |norms| magnitude.f_mul(norms))
    }

    fn by_row(&self) -> bool {
        true
    }
}
