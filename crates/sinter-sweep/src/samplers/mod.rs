//! The samplers, one file each: which recipe is tried next.
//!
//! A sampler keeps nothing: what it gives follows from the seed, the number of the trial and what was found so far, so a sweep can be stopped and
//! gone on with, by any number of workers.
//!
//! To add one: a file with a documented struct of its options that implements [`Sample`], and one line in the list below.

mod breeding;
mod cmaes;
mod grid;
mod nsga2;
mod nsga3;
mod random;
mod sobol;
mod tpe;

use std::collections::HashSet;
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
    pub taken: &'a Taken,
}

/// Points that are not to come again.
#[derive(Debug, Clone, Default)]
pub struct Taken(HashSet<Vec<Option<u64>>>);

impl Taken {
    fn key(point: &Point) -> Vec<Option<u64>> {
        point.iter().map(|place| place.map(f64::to_bits)).collect()
    }

    /// Takes a point, as [`Space::settled`] gives it.
    pub fn insert(&mut self, point: &Point) {
        self.0.insert(Self::key(point));
    }

    /// Whether a point was taken.
    pub fn contains(&self, point: &Point) -> bool {
        self.0.contains(&Self::key(point))
    }

    /// How many were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Asked<'_> {
    /// The point as it would be tried, where it was not taken yet.
    fn fresh(&self, point: &Point) -> Option<Point> {
        self.space.settled(point).filter(|point| !self.taken.contains(point))
    }

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
        "nsga3" => Nsga3(nsga3::Nsga3),
        "cmaes" => Cmaes(cmaes::Cmaes),
    }
    default Tpe
}

/// Attempts of the sampler at a point that was not taken before, and then of chance.
const ATTEMPTS: u64 = 40;
const BY_CHANCE: u64 = 2000;

/// The next point that was not tried yet; `None` where the space has no other, or none that chance finds.
pub fn next(sampler: &Sampler, asked: &Asked) -> Option<Point> {
    for attempt in 0..ATTEMPTS {
        if let Some(point) = asked.fresh(&sampler.kind().next(asked, attempt)?) {
            return Some(point);
        }
    }
    let mut random = asked.random(ATTEMPTS);
    let by_chance = (0..BY_CHANCE).find_map(|_| asked.fresh(&random::draw(asked.space, &mut random)));
    by_chance.or_else(|| grid::all(asked.space).find_map(|point| asked.fresh(&point)))
}
