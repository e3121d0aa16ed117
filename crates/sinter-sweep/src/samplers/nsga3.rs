//! Recipes that are crossed, kept apart by directions.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::breeding::child;
use super::random::draw;
use super::{Asked, Sample};
use crate::pareto::{Outcome, ranks};
use crate::space::Point;

/// As nsga2, but the best are spread over directions from the best corner, and not by how crowded they lie (NSGA-III; Deb and Jain, 2014). For three figures and
/// more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nsga3 {
    /// Recipes that are crossed, and that chance draws at first. Default: 24.
    pub population: NonZeroUsize,
}

impl Default for Nsga3 {
    fn default() -> Self {
        const { Self { population: NonZeroUsize::new(24).unwrap() } }
    }
}

impl Sample for Nsga3 {
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point> {
        let mut random = asked.random(attempt);
        if asked.told.len() < self.population.get() {
            return Some(draw(asked.space, &mut random));
        }
        let outcomes: Vec<&Outcome> = asked.told.iter().map(|(_, outcome)| outcome).collect();
        let best = survivors(&outcomes, self.population.get());
        let mut one = || &asked.told[best[random.usize(0..best.len())]].0;
        let (mother, father): (&Point, &Point) = (one(), one());
        Some(child(asked, mother, father, &mut random))
    }
}

/// The best so many: whole fronts, and of the last one those in the directions that have fewest so far.
fn survivors(outcomes: &[&Outcome], wanted: usize) -> Vec<usize> {
    let ranks = ranks(outcomes);
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    order.sort_by_key(|&i| ranks[i]);
    if order.len() <= wanted {
        return order;
    }
    let last = ranks[order[wanted - 1]];
    let within: Vec<usize> = order.iter().copied().filter(|&i| ranks[i] < last).collect();
    let mut open: Vec<usize> = order.iter().copied().filter(|&i| ranks[i] == last).collect();
    let considered: Vec<usize> = within.iter().chain(&open).copied().collect();
    let places = normalized(&considered.iter().map(|&i| outcomes[i].losses.as_slice()).collect::<Vec<_>>());
    let directions = directions(outcomes[0].losses.len(), wanted);
    let nearest: std::collections::HashMap<usize, (usize, f64)> =
        considered.iter().zip(&places).map(|(&i, place)| (i, nearest(place, &directions))).collect();
    let mut crowd = vec![0usize; directions.len()];
    within.iter().for_each(|i| crowd[nearest[i].0] += 1);
    let mut kept = within;
    while kept.len() < wanted && !open.is_empty() {
        // The emptiest direction that somebody is left for, and whoever lies nearest to it.
        let key = |i: usize| (crowd[nearest[&i].0], nearest[&i].1);
        let at = (0..open.len()).min_by(|&a, &b| {
            let ((ca, da), (cb, db)) = (key(open[a]), key(open[b]));
            ca.cmp(&cb).then(da.total_cmp(&db)).then(open[a].cmp(&open[b]))
        });
        let taken = open.swap_remove(at.unwrap_or(0));
        crowd[nearest[&taken].0] += 1;
        kept.push(taken);
    }
    kept
}

/// Figures from 0 at the best of each to 1 at the worst of those that are considered.
pub(super) fn normalized(all: &[&[f64]]) -> Vec<Vec<f64>> {
    let figures = all.first().map_or(0, |f| f.len());
    let ends: Vec<(f64, f64)> = (0..figures)
        .map(|k| all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), f| (low.min(f[k]), high.max(f[k]))))
        .collect();
    let place =
        |f: &&[f64]| f.iter().zip(&ends).map(|(v, (low, high))| (v - low) / (high - low).max(f64::MIN_POSITIVE)).collect();
    all.iter().map(place).collect()
}

/// Directions that lie evenly (Das and Dennis, 1998): the finest lattice of no more than so many.
fn directions(figures: usize, most: usize) -> Vec<Vec<f64>> {
    fn fill(left: usize, parts: usize, divisions: usize, begun: &mut Vec<f64>, all: &mut Vec<Vec<f64>>) {
        if parts == 1 {
            begun.push(left as f64 / divisions as f64);
            all.push(begun.clone());
            begun.pop();
            return;
        }
        for own in 0..=left {
            begun.push(own as f64 / divisions as f64);
            fill(left - own, parts - 1, divisions, begun, all);
            begun.pop();
        }
    }
    let of = |divisions: usize| {
        let mut all = Vec::new();
        fill(divisions, figures.max(1), divisions, &mut Vec::new(), &mut all);
        all
    };
    let mut found = of(1);
    for divisions in 2.. {
        let finer = of(divisions);
        if finer.len() > most || finer.len() == found.len() {
            break;
        }
        found = finer;
    }
    found
}

/// The direction whose line is nearest, and how far it is.
fn nearest(place: &[f64], directions: &[Vec<f64>]) -> (usize, f64) {
    let distance = |direction: &Vec<f64>| {
        let (along, length): (f64, f64) = place.iter().zip(direction).fold((0.0, 0.0), |(a, l), (p, d)| (a + p * d, l + d * d));
        let share = along / length.max(f64::MIN_POSITIVE);
        place.iter().zip(direction).map(|(p, d)| (p - share * d).powi(2)).sum::<f64>().sqrt()
    };
    let each = directions.iter().map(distance).enumerate();
    each.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of three figures in twelve parts there are 91 directions (Deb and Jain, table 1), of five in six 210.
    #[test]
    fn directions_are_those_of_das_and_dennis() {
        assert_eq!(directions(3, 91).len(), 91);
        assert_eq!(directions(3, 100).len(), 91);
        assert_eq!(directions(5, 210).len(), 210);
        assert!(directions(3, 91).iter().all(|d| (d.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        assert_eq!(directions(1, 24), [[1.0]]);
    }

    #[test]
    fn the_last_front_fills_empty_directions() {
        let of = |losses: &[f64]| Outcome { losses: losses.to_vec(), violation: 0.0 };
        // Three corners, a crowd at one of them, and one that others are better than.
        let all = [
            of(&[1.0, 0.0, 0.0]),
            of(&[0.99, 0.01, 0.01]),
            of(&[0.98, 0.02, 0.02]),
            of(&[0.0, 1.0, 0.0]),
            of(&[0.0, 0.0, 1.0]),
            of(&[1.0, 1.0, 1.0]),
        ];
        let mut kept = survivors(&all.iter().collect::<Vec<_>>(), 3);
        kept.sort_unstable();
        assert_eq!(kept, [0, 3, 4]);
    }
}
