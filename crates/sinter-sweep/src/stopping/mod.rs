//! When a trial is stopped before its end, one rule a file.
//!
//! To add one: a file with a documented struct of its options that implements [`Stop`], and one line in the list below.

mod asha;
mod median;

use std::fmt::Debug;

/// A rule that stops trials that fare worse than others did at the same step.
pub trait Stop: Debug {
    /// Whether a trial stops that has reached a step (an epoch, counted from 1 over all stages) with this score, the larger the better, beside the scores of all
    /// trials at that step, its own included.
    fn stops(&self, step: u64, score: f64, all: &[f64]) -> bool;
}

sinter_model::choices! {
    /// When a trial is stopped before its end.
    pub enum Stopping: dyn Stop {
        "asha" => Asha(asha::Asha),
        "median" => Median(median::Median),
    }
    default Asha
}
