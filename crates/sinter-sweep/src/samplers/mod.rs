//! The samplers, one file each: which recipe is tried next.
//!
//! A sampler keeps nothing: what it gives follows from the seed, the number of the trial and what was found so far, so a sweep can be stopped and
//! gone on with, by any number of workers.
//!
//! To add one: a file with a documented struct of its options that implements [`Sample`], and one line in the list below.

mod grid;
mod nsga2;
mod random;
mod sobol;
mod tpe;

use std::fmt::Debug;

use crate::pareto::Outcome;
use crate::space::{Point, Space};

/// What a sampler may know.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What is varied.
    pub space: &'a Space,
    /// Of the sweep.
    pub seed: u64,
    /// Of the trial, counted from 0.
    pub number: u64,
    /// What was found.
    pub told: &'a [(Point, Outcome)],
    /// What is being tried.
    pub pending: &'a [Point],
    /// Whatever was tried, is, or failed.
    pub taken: &'a [Point],
}

impl Asked<'_> {
    /// Chances of this trial's own; `try_again` gives others.
    fn random(&self, try_again: u64) -> fastrand::Rng {
        let mut seeds = fastrand::Rng::with_seed(self.seed);
        let own = seeds.u64(..) ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ try_again.wrapping_mul(0xd134_2543_de82_ef95);
        fastrand::Rng::with_seed(own)
    }
}

/// A way to choose the next recipe.
pub trait Sample: Debug {
    /// The next point; another one at another `attempt`, where that makes a difference. `None` where no point is left.
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point>;

    /// Why the sampler can't go through a space.
    fn unfit(&self, _space: &Space) -> Option<String> {
        None
    }
}

sinter_model::choices! {
    /// How recipes are chosen.
    pub enum Sampler: dyn Sample {
        "grid" => Grid(grid::Grid),
        "random" => Random(random::Random),
        "sobol" => Sobol(sobol::Sobol),
        "tpe" => Tpe(tpe::Tpe),
        "nsga2" => Nsga2(nsga2::Nsga2),
    }
    default Tpe
}

/// Attempts at a point that was not taken before.
const ATTEMPTS: u64 = 40;

/// The next point that was not tried yet; `None` where the space has no other.
pub fn next(sampler: &Sampler, asked: &Asked) -> Option<Point> {
    let fresh = |point: &Point| !asked.taken.contains(point);
    for attempt in 0..ATTEMPTS {
        let point = sampler.kind().next(asked, attempt)?;
        if fresh(&point) {
            return Some(point);
        }
    }
    // A space that is nearly used up: whatever is left of it.
    asked.space.size().filter(|size| *size <= 1 << 20)?;
    grid::all(asked.space).find(fresh)
}
