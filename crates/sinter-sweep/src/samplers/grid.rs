//! Every recipe, one after the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Sample};
use crate::space::{Point, Space};

/// Tries every recipe once, in order; the last key of the space changes fastest. For small spaces of choices and steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grid {}

impl Sample for Grid {
    fn next(&self, asked: &Asked, _attempt: u64) -> Option<Point> {
        all(asked.space).find(|point| !asked.taken.contains(point))
    }

    fn unfit(&self, space: &Space) -> Option<String> {
        let endless = space.parameters.iter().find(|p| p.values.count().is_none())?;
        Some(format!("a grid has steps, and `{}` has none: give it a `step`, or take another sampler", endless.key))
    }
}

/// All points of a finite space; of an axis without steps its lower end alone. Those that conditions make the same come once.
pub(super) fn all(space: &Space) -> impl Iterator<Item = Point> + '_ {
    let counts: Vec<u128> = space.parameters.iter().map(|p| p.values.count().unwrap_or(1) as u128).collect();
    let size = counts.iter().try_fold(1u128, |all, &n| all.checked_mul(n)).unwrap_or(u128::MAX);
    (0..size).filter_map(move |number| {
        let mut rest = number;
        let mut indices = vec![0usize; counts.len()];
        for (index, count) in indices.iter_mut().zip(&counts).rev() {
            *index = (rest % count) as usize;
            rest /= count;
        }
        let point = space.draw(|at, values| values.nth(indices[at]));
        // What is not there stands at its first value in one of these alone.
        let first = point.iter().zip(&indices).all(|(place, index)| place.is_some() || *index == 0);
        first.then_some(point)
    })
}
