//! Recipes from two others: what genetic samplers share.

use super::Asked;
use super::random::anywhere;
use crate::space::Point;

/// How likely a recipe has two parents.
const CROSSED: f64 = 0.9;

/// A child of two recipes: each key from one of them, and few changed to anything.
pub(super) fn child(asked: &Asked, mother: &Point, father: &Point, random: &mut fastrand::Rng) -> Point {
    let crossed = random.f64() < CROSSED;
    let share = 1.0 / asked.space.parameters.len().max(2) as f64;
    asked.space.draw(|at, values| {
        let inherited = if crossed && random.bool() { father[at].or(mother[at]) } else { mother[at].or(father[at]) };
        match inherited {
            Some(place) if random.f64() >= share => place,
            _ => anywhere(values, random),
        }
    })
}
