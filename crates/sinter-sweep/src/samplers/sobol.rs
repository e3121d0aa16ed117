//! Evenly spread.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Sample};
use crate::space::{Point, Space};
use crate::values::Values;

/// A sequence that fills the space more evenly than chance does (Sobol, 1967; with Owen's scrambling, 1998). For a first look at a space of ranges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sobol {}

/// What the sequence knows.
const DIMENSIONS: usize = sobol_burley::NUM_DIMENSIONS as usize;

impl Sample for Sobol {
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point> {
        // The sequence has an end; a point that was taken gives way to one from somewhere else in it.
        let index = (asked.number as u32).wrapping_add((attempt as u32).wrapping_mul(0x6a09)) % (1 << 16);
        let place = |at: usize, values: &Values| {
            let even = f64::from(sobol_burley::sample(index, at as u32, asked.seed as u32));
            match values {
                Values::Choices(all) => (even * all.len() as f64).floor(),
                Values::Axis(_) => even,
            }
        };
        Some(asked.space.draw(place))
    }

    fn unfit(&self, space: &Space) -> Option<String> {
        let many = space.parameters.len();
        (many > DIMENSIONS).then(|| format!("a Sobol sequence has at most {DIMENSIONS} keys, and here are {many}: take `random`"))
    }
}
