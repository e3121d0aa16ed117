//! The median rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stop;

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
    fn stops(&self, step: u64, score: f64, all: &[f64]) -> bool {
        if step <= self.warmup || all.len() <= self.trials {
            return false;
        }
        let mut all = all.to_vec();
        all.sort_by(f64::total_cmp);
        score < all[(all.len() - 1) / 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_half_stops() {
        let all = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];
        let rule = Median::default();
        let stopped = |step| all.iter().filter(|score| rule.stops(step, **score, &all)).count();
        assert_eq!([1, 2].map(stopped), [0, 3]);
        assert!(!rule.stops(9, 0.0, &all[..5]));
    }
}
