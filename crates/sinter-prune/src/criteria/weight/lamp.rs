//! Layer-adaptive magnitude.

use fastrand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, TchError, Tensor};

use super::Criterion;

/// The square of the weight as a part of those of its layer that are no smaller (LAMP; Lee et al., 2021), so that layers of any scale compare.
/// For `scope: global`; with one share for each layer it is magnitude. Costs a sort.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lamp {}

impl Criterion for Lamp {
    fn score(&self, value: &Tensor, _seen: Option<&Tensor>, _rng: &mut Rng) -> Result<Tensor, TchError> {
        let squares = value.f_square()?;
        let (sorted, order) = squares.f_reshape([-1])?.f_to_kind(Kind::Double)?.f_sort(0, true)?;
        let part = sorted.f_div(&sorted.f_cumsum(0, Kind::Double)?.f_clamp_min(f64::MIN_POSITIVE)?)?.f_to_kind(Kind::Float)?;
        part.f_zeros_like()?.f_scatter(0, &order, &part)?.f_reshape(squares.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::to_f32s;

    #[test]
    fn scores_are_parts_of_what_is_no_smaller() {
        // By hand: squares 1, 4, 9, 4; the largest is all of itself, the smallest 1 of 18.
        let scores = Lamp {}.score(&Tensor::from_slice(&[1f32, -2.0, 3.0, 2.0]), None, &mut Rng::with_seed(0)).unwrap();
        let scores = to_f32s(&scores).unwrap();
        assert!((scores[0] - 1.0 / 18.0).abs() < 1e-6 && scores[2] == 1.0, "{scores:?}");
        let mut middle = [scores[1], scores[3]];
        middle.sort_by(f32::total_cmp);
        assert!((middle[0] - 4.0 / 17.0).abs() < 1e-6 && (middle[1] - 4.0 / 13.0).abs() < 1e-6, "{scores:?}");
    }
}
