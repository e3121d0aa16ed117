//! Successive halving, asynchronous.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stop;

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
    fn stops(&self, step: u64, score: f64, all: &[f64]) -> bool {
        let factor = self.factor.get();
        let rungs = std::iter::successors(Some(self.least.get()), |rung| rung.checked_mul(factor).filter(|_| factor > 1));
        if !rungs.take_while(|rung| *rung <= step).any(|rung| rung == step) {
            return false;
        }
        // The first ones at a rung have nobody to be compared with.
        let go_on = (all.len() / factor as usize).max(1);
        all.iter().filter(|other| **other > score).count() >= go_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_three_goes_on() {
        let rule = Asha { least: NonZeroU64::new(2).unwrap(), ..Asha::default() };
        let all = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
        // Rungs are 2, 6 and 18.
        let stopped = |step| all.iter().filter(|score| rule.stops(step, **score, &all)).count();
        assert_eq!([1, 2, 3, 5, 6, 7, 18].map(stopped), [0, 4, 0, 0, 4, 0, 4]);
        assert!(!rule.stops(2, 0.0, &[0.0]));
        // With a factor of one everybody goes on.
        let never = Asha { factor: NonZeroU64::MIN, ..Asha::default() };
        assert!(!all.iter().any(|score| never.stops(1, *score, &all)));
    }
}
