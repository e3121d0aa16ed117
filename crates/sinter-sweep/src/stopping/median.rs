//! The median rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reached, Stop};

/// Stops a trial that is worse than half of all trials were at the same epoch (Golovin et al., 2017). Gentle, and needs no rungs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Median {
    /// Epochs in which nothing is stopped. Default: 1.
    pub warmup: u64,
    /// Trials that must have come to an epoch before any is stopped there. Default: 5.
    pub trials: usize,
}

impl Default for Median {
    fn default() -> Self {
        Self { warmup: 1, trials: 5 }
    }
}

impl Stop for Median {
    fn stops(&self, step: u64, (_, score): Reached, all: &[Reached]) -> bool {
        if step <= self.warmup || all.len() <= self.trials {
            return false;
        }
        let mut all: Vec<f64> = all.iter().map(|(_, score)| *score).collect();
        all.sort_by(f64::total_cmp);
        score < all[(all.len() - 1) / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_half_stops() {
        let all: Vec<Reached> = (1..=7).map(|i| (i, i as f64 / 10.0)).collect();
        let rule = Median::default();
        let stopped = |step| all.iter().filter(|me| rule.stops(step, **me, &all)).count();
        assert_eq!([1, 2].map(stopped), [0, 3]);
        assert!(!rule.stops(9, (1, 0.0), &all[..5]));
    }
}
