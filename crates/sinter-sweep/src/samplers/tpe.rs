//! By what the good recipes have in common.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nsga3::normalized;
use super::random::{anywhere, draw};
use super::{Asked, Sample};
use crate::pareto::{Outcome, order};
use crate::space::{Point, Space};
use crate::values::Values;

/// Fits one density to the best tenth of all recipes and one to the others, over all keys at once, and takes the recipe that the first makes much more likely
/// (multivariate tree-structured Parzen estimator; Bergstra et al., 2011, Falkner et al., 2018). Of two figures the best are those of the first fronts
/// (Ozaki et al., 2020); of more, each trial looks in a direction of chance (Knowles, 2006). For tens to hundreds of trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tpe {
    /// Recipes that chance draws at first. Default: 10.
    pub startup: NonZeroUsize,
    /// Recipes that are weighed for each trial. Default: 24.
    pub candidates: NonZeroUsize,
}

impl Default for Tpe {
    fn default() -> Self {
        const { Self { startup: NonZeroUsize::new(10).unwrap(), candidates: NonZeroUsize::new(24).unwrap() } }
    }
}

/// The share of recipes that count as good, and the most of them.
const GOOD: f64 = 0.1;
const MOST_GOOD: usize = 25;
/// The most of the others that are looked at, so that a trial costs no more after thousands.
const MOST_OTHERS: usize = 400;
/// Later trials count in full; earlier ones less and less.
const IN_FULL: usize = 25;
/// A kernel is never narrower than one part in so many of the range.
const NARROWEST: f64 = 100.0;

impl Sample for Tpe {
    fn next(&self, asked: &Asked, attempt: u64) -> Option<Point> {
        let mut random = asked.random(attempt);
        if asked.told.len() < self.startup.get() {
            return Some(draw(asked.space, &mut random));
        }
        let outcomes: Vec<&Outcome> = asked.told.iter().map(|(_, outcome)| outcome).collect();
        let order = match outcomes[0].losses.len() {
            1 | 2 => order(&outcomes),
            _ => along(&outcomes, &mut random),
        };
        let count = ((GOOD * order.len() as f64).ceil() as usize).clamp(1, MOST_GOOD);
        let pick = |places: &[usize]| {
            let mut places = places.to_vec();
            places.sort_unstable();
            places.into_iter().map(|i| &asked.told[i].0).collect::<Vec<&Point>>()
        };
        // Nobody looks at a part of a wide front that no kernel reaches.
        let wide = outcomes[0].losses.len() > 2;
        let good = Density::new(asked.space, pick(&order[..count]), wide);
        // Every so many of the worse ones, from the best of them to the worst.
        let stride = (order.len() - count).div_ceil(MOST_OTHERS).max(1);
        let mut others = pick(&order[count..].iter().copied().step_by(stride).collect::<Vec<_>>());
        // What is being tried may turn out badly: workers side by side look elsewhere.
        others.extend(asked.pending);
        let others = Density::new(asked.space, others, wide);
        let candidates: Vec<Point> = (0..self.candidates.get()).map(|_| good.draw(&mut random)).collect();
        let fresh = candidates.iter().filter_map(|point| asked.fresh(point));
        let scored = fresh.map(|point| (good.log(&point) - others.log(&point), point));
        let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, point)| point);
        best.or_else(|| candidates.into_iter().next())
    }
}

/// From the best to the worst in a direction of chance: nearly all are on the front of many figures, so each trial asks for another part of it (augmented
/// Chebyshev; Knowles, 2006).
fn along(outcomes: &[&Outcome], random: &mut fastrand::Rng) -> Vec<usize> {
    let weights: Vec<f64> = outcomes[0].losses.iter().map(|_| -random.f64().max(f64::MIN_POSITIVE).ln()).collect();
    let sum: f64 = weights.iter().sum();
    let places = normalized(&outcomes.iter().map(|o| o.losses.as_slice()).collect::<Vec<_>>());
    let value = |place: &Vec<f64>| {
        let each = || place.iter().zip(&weights).map(|(p, w)| p * w / sum);
        each().fold(0.0, f64::max) + 0.05 * each().sum::<f64>()
    };
    let values: Vec<f64> = places.iter().map(value).collect();
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    order.sort_by(|&a, &b| outcomes[a].violation.total_cmp(&outcomes[b].violation).then(values[a].total_cmp(&values[b])));
    order
}

/// A mixture of kernels, one a recipe and one for all of the space.
struct Density<'a> {
    space: &'a Space,
    points: Vec<&'a Point>,
    /// One a recipe, then that of the whole space; they sum to one.
    weights: Vec<f64>,
    /// Of each recipe, by key: how far it is to its neighbours.
    widths: Vec<Vec<f64>>,
    /// Of each recipe, by key: the part of its logarithm that is the same wherever it is asked.
    constants: Vec<Vec<f64>>,
}

impl<'a> Density<'a> {
    /// `wide`: kernels are no narrower than a fifth of the range, less where there are many (the rule of Scott, 1992).
    fn new(space: &'a Space, points: Vec<&'a Point>, wide: bool) -> Self {
        let n = points.len();
        let old = n.saturating_sub(IN_FULL);
        let ramp = |i: usize| 1.0 / n as f64 + (1.0 - 1.0 / n as f64) * i as f64 / (old - 1).max(1) as f64;
        let mut weights: Vec<f64> = (0..n).map(|i| if i < old { ramp(i) } else { 1.0 }).collect();
        weights.push(1.0);
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        let least = if wide { 0.2 * (n.max(1) as f64).powf(-1.0 / (space.parameters.len() as f64 + 4.0)) } else { 0.0 };
        let widths = widths(&points, space.parameters.len(), least);
        let constant = |point: &Point, widths: &Vec<f64>| -> Vec<f64> {
            let each = space.parameters.iter().zip(point).zip(widths);
            each.map(|((parameter, place), width)| place.map_or(0.0, |place| constant(&parameter.values, place, *width)))
                .collect()
        };
        let constants = points.iter().zip(&widths).map(|(point, widths)| constant(point, widths)).collect();
        Self { space, points, weights, widths, constants }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> Point {
        let mut at = random.f64();
        let kernel = self.weights.iter().position(|w| {
            at -= w;
            at < 0.0
        });
        let centre = kernel.filter(|k| *k < self.points.len());
        self.space.draw(|i, values| match (centre.and_then(|k| self.points[k][i]), values) {
            (None, _) => anywhere(values, random),
            (Some(place), Values::Choices(all)) => {
                let near = self.nearness(all.len());
                if random.f64() < near { place } else { random.usize(0..all.len()) as f64 }
            }
            (Some(place), Values::Axis(_)) => {
                let half = half_step(values);
                let width = centre.map_or(1.0, |k| self.widths[k][i]);
                let near = (0..64).map(|_| place + width * normal(random)).find(|p| (-half..=1.0 + half).contains(p));
                near.unwrap_or_else(|| random.f64())
            }
        })
    }

    /// How likely a kernel keeps a choice rather than drawing anew.
    fn nearness(&self, choices: usize) -> f64 {
        let prior = 1.0 / (self.points.len() as f64 + 1.0);
        1.0 / (1.0 + prior * choices as f64)
    }

    fn log(&self, point: &Point) -> f64 {
        let of = |kernel: usize| -> f64 {
            let each = self.space.parameters.iter().enumerate().map(|(i, parameter)| {
                let Some(place) = point[i] else { return 0.0 };
                let own = |c: &&Point| Some((c[i]?, self.widths[kernel][i], self.constants[kernel][i]));
                self.log_of(&parameter.values, self.points.get(kernel).and_then(own), place)
            });
            each.sum()
        };
        let logs: Vec<f64> = self.weights.iter().enumerate().map(|(k, w)| w.ln() + of(k)).collect();
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        top + logs.iter().map(|l| (l - top).exp()).sum::<f64>().ln()
    }

    /// Of one key of one kernel; of the kernel for all of the space where there is no centre.
    fn log_of(&self, values: &Values, centre: Option<(f64, f64, f64)>, place: f64) -> f64 {
        match (values, centre) {
            (Values::Choices(all), None) => -(all.len() as f64).ln(),
            (Values::Choices(all), Some((centre, ..))) => {
                let (near, n) = (self.nearness(all.len()), all.len() as f64);
                (if centre == place { near + (1.0 - near) / n } else { (1.0 - near) / n }).max(f64::MIN_POSITIVE).ln()
            }
            (Values::Axis(_), None) => match values.count() {
                Some(count) => -(count as f64).ln(),
                None => 0.0,
            },
            (Values::Axis(_), Some((centre, width, constant))) => match values.count() {
                Some(_) => {
                    let half = half_step(values);
                    mass(centre, width, (place - half, place + half)).max(f64::MIN_POSITIVE).ln() + constant
                }
                None => constant - 0.5 * ((place - centre) / width).powi(2),
            },
        }
    }
}

/// What of the logarithm of a kernel on an axis does not depend on where it is asked: its height, and that it ends where the axis does.
fn constant(values: &Values, centre: f64, width: f64) -> f64 {
    if matches!(values, Values::Choices(_)) {
        return 0.0;
    }
    let half = half_step(values);
    let inside = mass(centre, width, (-half, 1.0 + half)).max(f64::MIN_POSITIVE).ln();
    let height = if values.count().is_some() { 0.0 } else { (width * std::f64::consts::TAU.sqrt()).ln() };
    -inside - height
}

/// The share of a normal distribution between two places.
fn mass(centre: f64, width: f64, (low, high): (f64, f64)) -> f64 {
    below((high - centre) / width) - below((low - centre) / width)
}

/// How wide each recipe's kernel is along each key, `least` at least: as far as to the farther of its two neighbours (Bergstra et al., 2011), the ends of the range not counted
/// where there are two recipes or more.
fn widths(points: &[&Point], keys: usize, least: f64) -> Vec<Vec<f64>> {
    let narrowest = least.max(1.0 / (points.len() as f64 + 2.0).min(NARROWEST));
    let mut widths = vec![vec![1.0; keys]; points.len()];
    for key in 0..keys {
        let mut order: Vec<(f64, usize)> = points.iter().enumerate().filter_map(|(i, point)| Some((point[key]?, i))).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at, &(place, i)) in order.iter().enumerate() {
            let below = if at > 0 { Some(place - order[at - 1].0) } else { None };
            let above = order.get(at + 1).map(|next| next.0 - place);
            let width = match (below, above) {
                (Some(below), Some(above)) => below.max(above),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => place.max(1.0 - place),
            };
            widths[i][key] = width.clamp(narrowest, 1.0);
        }
    }
    widths
}

/// Half of the distance between two values of an axis with steps; 0 without.
fn half_step(values: &Values) -> f64 {
    values.count().map_or(0.0, |count| 0.5 / (count.max(2) - 1) as f64)
}

/// The share of the normal distribution below.
fn below(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// From the normal distribution (Box and Muller, 1958).
pub(super) fn normal(random: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}
