//! Successive halving, asynchronous.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reached, Stop};

/// Lets only the best third of the trials that reached a rung go on to the next, which is three times as far (ASHA; Li et al., 2020, in the form that stops and
/// never pauses, so that no trial is left hanging).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Asha {
    /// Epochs to the first rung. Default: 1.
    pub least: NonZeroU64,
    /// The share that goes on is one in so many, and the next rung so many times as far. Default: 3.
    pub factor: NonZeroU64,
}

impl Default for Asha {
    fn default() -> Self {
        const { Self { least: NonZeroU64::MIN, factor: NonZeroU64::new(3).unwrap() } }
    }
}

impl Stop for Asha {
    fn stops(&self, step: u64, (_, score): Reached, all: &[Reached]) -> bool {
        let factor = self.factor.get();
        if !is_rung(step, self.least.get(), factor) {
            return false;
        }
        // The first ones at a rung have nobody to be compared with.
        let go_on = (all.len() / factor as usize).max(1);
        all.iter().filter(|(_, other)| *other > score).count() >= go_on
    }
}

/// Whether a step is the first rung, or some power of the factor beyond it.
pub(super) fn is_rung(step: u64, first: u64, factor: u64) -> bool {
    let rungs = std::iter::successors(Some(first), |rung| rung.checked_mul(factor).filter(|_| factor > 1));
    rungs.take_while(|rung| *rung <= step).any(|rung| rung == step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_three_goes_on() {
        let rule = Asha { least: NonZeroU64::new(2).unwrap(), ..Asha::default() };
        let all: Vec<Reached> = (1..=6).map(|i| (i, i as f64 / 10.0)).collect();
        // Rungs are 2, 6 and 18.
        let stopped = |step| all.iter().filter(|me| rule.stops(step, **me, &all)).count();
        assert_eq!([1, 2, 3, 5, 6, 7, 18].map(stopped), [0, 4, 0, 0, 4, 0, 4]);
        assert!(!rule.stops(2, (1, 0.0), &[(1, 0.0)]));
        // With a factor of one everybody goes on.
        let never = Asha { factor: NonZeroU64::MIN, ..Asha::default() };
        assert!(!all.iter().any(|me| never.stops(1, *me, &all)));
    }
}
