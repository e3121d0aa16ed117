//! By chance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Sample};
use crate::space::{Point, Space};
use crate::values::Values;

/// Draws every recipe by itself (Bergstra and Bengio, 2012). The measure of all others, and the best where trials are few or run all at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Random {}

impl Sample for Random {
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point> {
        Some(draw(asked.space, &mut asked.random(attempt)))
    }
}

/// A point by chance.
pub(super) fn draw(space: &Space, random: &mut fastrand::Rng) -> Point {
    space.draw(|_, values| anywhere(values, random))
}

/// A place by chance: of an axis with steps each value is as likely as any other.
pub(super) fn anywhere(values: &Values, random: &mut fastrand::Rng) -> f64 {
    match (values, values.count()) {
        (Values::Choices(all), _) => random.usize(0..all.len()) as f64,
        (_, Some(count)) if !values.is_logarithmic() => values.nth(random.usize(0..count)),
        _ => random.f64(),
    }
}
