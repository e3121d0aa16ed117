//! Successive halving in several brackets.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::asha::is_rung;
use super::{Reached, Stop};

/// Successive halving whose trials fall into brackets, some of which let everybody go further before anybody is stopped (Hyperband; Li et al., 2018, each bracket
/// without waiting as in ASHA). For where nobody knows how early a good recipe shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hyperband {
    /// Epochs to the first rung of the strictest bracket. Default: 1.
    pub least: NonZeroU64,
    /// Epochs of a whole trial, over all stages. Default: 27.
    pub most: NonZeroU64,
    /// The share that goes on is one in so many, and the next rung so many times as far. Default: 3.
    pub factor: NonZeroU64,
}

impl Default for Hyperband {
    fn default() -> Self {
        const { Self { least: NonZeroU64::MIN, most: NonZeroU64::new(27).unwrap(), factor: NonZeroU64::new(3).unwrap() } }
    }
}

impl Hyperband {
    /// How often a trial of the strictest bracket may be halved.
    fn halvings(&self) -> u32 {
        let factor = self.factor.get().max(2);
        let rungs = std::iter::successors(Some(self.least.get()), |rung| rung.checked_mul(factor));
        rungs.take_while(|rung| *rung <= self.most.get()).count().saturating_sub(1) as u32
    }

    /// A trial's bracket: how often it may be halved. Brackets get as many trials as Hyperband gives them, in even order.
    fn bracket(&self, trial: i64) -> u32 {
        let all = self.halvings();
        let size = |s: u32| f64::from(all + 1) / f64::from(s + 1) * (self.factor.get().max(2) as f64).powi(s as i32);
        // Multiples of the golden ratio fill the interval evenly however many there are.
        let mut at = (trial as f64 * 0.618_033_988_749_894_9).fract() * (0..=all).map(size).sum::<f64>();
        for s in (0..=all).rev() {
            at -= size(s);
            if at < 0.0 {
                return s;
            }
        }
        0
    }
}

impl Stop for Hyperband {
    fn stops(&self, step: u64, (trial, score): Reached, all: &[Reached]) -> bool {
        let (bracket, factor) = (self.bracket(trial), self.factor.get());
        let first = self.least.get().saturating_mul(factor.max(2).saturating_pow(self.halvings() - bracket));
        // Whoever has come to the end is not stopped there.
        let last = self.least.get().saturating_mul(factor.max(2).saturating_pow(self.halvings()));
        if step >= last || factor < 2 || !is_rung(step, first, factor) {
            return false;
        }
        let own: Vec<f64> = all.iter().filter(|(other, _)| self.bracket(*other) == bracket).map(|(_, score)| *score).collect();
        let go_on = (own.len() / factor as usize).max(1);
        own.iter().filter(|other| **other > score).count() >= go_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Li et al., table 1: with 81 epochs and a factor of 3, brackets of 81, 34, 15, 8 and 5 trials.
    #[test]
    fn brackets_have_their_sizes() {
        let rule = Hyperband { most: NonZeroU64::new(81).unwrap(), ..Hyperband::default() };
        assert_eq!(rule.halvings(), 4);
        let mut counts = [0usize; 5];
        (1..=1430).for_each(|trial| counts[rule.bracket(trial) as usize] += 1);
        for (count, wanted) in counts.iter().zip([5, 8, 15, 34, 81]) {
            assert!(count.abs_diff(wanted * 10) <= 10, "{counts:?}");
        }
    }

    /// 30 epochs have the rungs of 27: at the last of them nobody is stopped.
    #[test]
    fn the_last_rung_is_the_end() {
        let rule = Hyperband { most: NonZeroU64::new(30).unwrap(), ..Hyperband::default() };
        let all: Vec<Reached> = (1..=200).map(|trial| (trial, trial as f64)).collect();
        assert!(!all.iter().any(|me| rule.stops(27, *me, &all)));
        assert!(all.iter().any(|me| rule.stops(9, *me, &all)));
    }

    #[test]
    fn each_bracket_stops_at_its_own_rungs() {
        let rule = Hyperband { most: NonZeroU64::new(9).unwrap(), ..Hyperband::default() };
        let all: Vec<Reached> = (1..=60).map(|trial| (trial, trial as f64)).collect();
        for bracket in 0..=2 {
            let own: Vec<Reached> = all.iter().copied().filter(|(trial, _)| rule.bracket(*trial) == bracket).collect();
            let stopped = |step| own.iter().filter(|me| rule.stops(step, **me, &all)).count();
            let two_thirds = own.len() - own.len() / 3;
            // The strictest stops at 1 and 3, the next at 3, the last never.
            let wanted = [[0, 0, 0, 0], [0, 0, two_thirds, 0], [two_thirds, 0, two_thirds, 0]][bracket as usize];
            assert_eq!([1, 2, 3, 9].map(stopped), wanted, "bracket {bracket} of {}", own.len());
        }
    }
}
