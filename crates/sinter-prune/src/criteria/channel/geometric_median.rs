//! Distance to the other channels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Model, to_f32s};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

use super::{Criterion, joined, of_outputs};
use crate::channels::Group;

/// The distance to the layer's other channels: what lies in their midst can be replaced by them (FPGM; He et al., 2019). For layers whose
/// channels are about equally large. Costs all pairwise distances.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeometricMedian {}

impl Criterion for GeometricMedian {
    fn score(&self, model: &Model, groups: &[Group], _context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
        Ok(joined(groups, &of_outputs(model, |_, value, axis| distances(value, axis))?))
    }
}

/// The sum of each channel's Euclidean distances to all others.
fn distances(weight: &Tensor, axis: usize) -> Result<Vec<f64>, StageError> {
    let rows = weight.f_movedim_int(axis as i64, 0)?.f_reshape([weight.size()[axis], -1])?;
    let sums = Tensor::f_cdist(&rows, &rows, 2.0, None)?.f_sum_dim_intlist(1, false, Kind::Float)?;
    Ok(to_f32s(&sums)?.into_iter().map(f64::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_in_the_middle_is_nearest_to_all() {
        // By hand: distances of (0,0), (3,4), (6,8) are 5 and 10.
        let weight = Tensor::from_slice(&[0f32, 0.0, 3.0, 4.0, 6.0, 8.0]).reshape([3, 2]);
        assert_eq!(distances(&weight, 0).unwrap(), [15.0, 10.0, 15.0]);
    }
}
