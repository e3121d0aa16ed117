//! Magnitude of the gradient.

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

/// The root mean square of `dL/dw`, whatever the weight is: what RigL (Evci et al., 2020) lets grow, here what stays. For masks that grow early in
/// training, while weights still say little of what they will be; on a trained model `taylor` knows more. Costs a backward pass over the samples in
/// small batches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gradient {
    /// Training samples that gradients come from. Default: 2048.
    pub samples: Samples,
}

impl Criterion for Gradient {
    fn needs(&self) -> Needs {
        Needs::Labels
    }

    fn gather(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        Ok(fisher(model, context.data.task, &self.samples.draw(context), &context.reporter())?)
    }

    fn score(&self, value: &Tensor, seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        seen.map_or_else(|| value.f_abs(), |squares| squares.f_sqrt())
    }

    fn training_term(&self, _value: &Tensor, gradient: &Tensor) -> Option<(Result<Tensor, TchError>, f64)> {
        Some((gradient.f_square(), MEMORY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of gradients 3 and 4 of one weight and -1 and 1 of another the root mean squares are the square root of 12.5 and 1.
    #[test]
    fn gradients_of_either_sign_count() {
        let criterion = Gradient::default();
        let term = |g: [f32; 2]| {
            criterion.training_term(&Tensor::zeros_like(&Tensor::from_slice(&g)), &Tensor::from_slice(&g)).unwrap().0.unwrap()
        };
        let mean = (term([3.0, -1.0]) + term([4.0, 1.0])) / 2.0;
        let score = criterion.score(&Tensor::from_slice(&[9f32, 9.0]), Some(&mean), &mut Rng::with_seed(1)).unwrap();
        assert!(score.allclose(&Tensor::from_slice(&[3.535_534f32, 1.0]), 1e-6, 0.0, false));
    }
}
