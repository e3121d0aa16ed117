//! Recipes that are crossed and changed.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::breeding::child;
use super::random::draw;
use super::{Asked, Sample};
use crate::pareto::{Outcome, order};
use crate::space::Point;

/// Crosses the best recipes so far and changes a little of them (NSGA-II; Deb et al., 2002). The best are chosen among all that were tried, after every
/// trial. For fronts of two or more figures and hundreds of trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nsga2 {
    /// Recipes that are crossed, and that chance draws at first. Default: 24.
    pub population: NonZeroUsize,
}

impl Default for Nsga2 {
    fn default() -> Self {
        const { Self { population: NonZeroUsize::new(24).unwrap() } }
    }
}

impl Sample for Nsga2 {
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point> {
        let mut random = asked.random(attempt);
        if asked.told.len() < self.population.get() {
            return Some(draw(asked.space, &mut random));
        }
        let outcomes: Vec<&Outcome> = asked.told.iter().map(|(_, outcome)| outcome).collect();
        let best: Vec<usize> = order(&outcomes).into_iter().take(self.population.get()).collect();
        // They stand in their order: of two the one that stands first.
        let mut winner = || &asked.told[best[random.usize(0..best.len()).min(random.usize(0..best.len()))]].0;
        let (mother, father): (&Point, &Point) = (winner(), winner());
        Some(child(asked, mother, father, &mut random))
    }
}
