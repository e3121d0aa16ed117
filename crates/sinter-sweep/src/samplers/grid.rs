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
        all(asked.space).find_map(|point| asked.fresh(&point))
    }

    fn unfit(&self, space: &Space) -> Option<String> {
        let endless = space.parameters.iter().find(|p| p.values.count().is_none())?;
        Some(format!("a grid has steps, and `{}` has none: give it a `step`, or take another sampler", endless.key))
    }
}

/// All points of a space, of an axis without steps its lower end alone: like the figures of a counter, of which only those turn that are there.
pub(super) fn all(space: &Space) -> impl Iterator<Item = Point> + '_ {
    let counts: Vec<usize> = space.parameters.iter().map(|p| p.values.count().unwrap_or(1)).collect();
    let mut now = Some(vec![0usize; counts.len()]);
    std::iter::from_fn(move || {
        let indices = now.take()?;
        let point = space.draw(|at, values| values.nth(indices[at]));
        let turns = (0..counts.len()).rev().find(|&at| point[at].is_some() && indices[at] + 1 < counts[at]);
        now = turns.map(|at| {
            let mut next = indices;
            next[at] += 1;
            next[at + 1..].fill(0);
            next
        });
        Some(point)
    })
}
