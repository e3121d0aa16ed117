//! First-order change of the loss.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::saliency;
use sinter_model::Model;
use sinter_train::{Context, StageError};

use super::{Criterion, joined, of_outputs, sums};
use crate::channels::Group;
use crate::criteria::{Needs, Samples};

/// How much the loss would change, to first order, without the channel: the sum of `|w * dL/dw|` (Molchanov et al., 2019). The best guess where
/// there are labels. Costs a backward pass over the samples.
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

    fn score(&self, model: &Model, groups: &[Group], context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
        let terms = saliency(model, context.data.task, &self.samples.draw(context), &|what, done, all| {
            context.progress(what, done, all)
        })?;
        // A layer that no gradient reaches counts by its squares.
        let each = of_outputs(model, |name, value, axis| match terms.get(name) {
            Some(term) => sums(term, axis),
            None => sums(&value.f_square()?, axis),
        })?;
        Ok(joined(groups, &each))
    }
}
