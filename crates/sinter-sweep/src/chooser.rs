//! Which recipe a worker takes next, by all that was tried.

use std::collections::{BTreeMap, BTreeSet};

use crate::pareto::Outcome;
use crate::samplers::{Asked, Sampler, Taken, next};
use crate::space::{Point, Space};
use crate::trial::Trial;

/// Chooses recipes, and remembers what it knows of trials that are over.
#[derive(Debug)]
pub struct Chooser<'a> {
    space: &'a Space,
    sampler: &'a Sampler,
    seed: u64,
    /// The most trials within the space.
    most: usize,
    /// In the order of the trials, whoever was done first.
    told: Vec<(Point, Outcome)>,
    ids: Vec<i64>,
    /// Stopped early or failed.
    lost: Vec<Point>,
    taken: Taken,
    known: BTreeSet<i64>,
    /// Up to this one all are over: a trial costs no more for the thousands before it.
    settled: i64,
}

/// A recipe to be tried: its sampler, its values by key, its seed.
pub type Chosen = (String, BTreeMap<String, String>, u64);

impl<'a> Chooser<'a> {
    /// Of a sweep of so many trials.
    pub fn new(space: &'a Space, sampler: &'a Sampler, seed: u64, most: usize) -> Self {
        Self {
            space,
            sampler,
            seed,
            most,
            told: vec![],
            ids: vec![],
            lost: vec![],
            taken: Taken::default(),
            known: BTreeSet::new(),
            settled: 0,
        }
    }

    /// The next recipe; `None` where no trial is left. `outcome` says what came of a trial that is done. Trials outside of the space count for nothing.
    pub fn choose(&mut self, trials: &BTreeMap<i64, Trial>, outcome: &dyn Fn(&Trial) -> Option<Outcome>) -> Option<Chosen> {
        let mut open = Vec::new();
        for trial in trials.range(self.settled + 1..).map(|(_, trial)| trial) {
            if self.known.contains(&trial.id) {
                continue;
            }
            let point = self.space.point(&trial.recipe);
            if trial.state.is_final() {
                self.known.insert(trial.id);
            }
            let Some(point) = point else { continue };
            self.taken.insert(&point);
            match outcome(trial) {
                Some(outcome) => {
                    let at = self.ids.partition_point(|id| *id < trial.id);
                    self.ids.insert(at, trial.id);
                    self.told.insert(at, (point, outcome));
                }
                None if trial.state.is_final() => self.lost.push(point),
                None => open.push(point),
            }
        }
        while self.known.remove(&(self.settled + 1)) {
            self.settled += 1;
        }
        let others: Vec<Point> = self.lost.iter().chain(&open).cloned().collect();
        let number = self.told.len() + others.len();
        if number >= self.most {
            return None;
        }
        let asked = Asked {
            space: self.space,
            seed: self.seed,
            number: number as u64,
            told: &self.told,
            pending: &others,
            taken: &self.taken,
        };
        let point = next(self.sampler, &asked)?;
        Some((self.sampler.name().to_string(), self.space.values(&point), self.seed))
    }
}
