//! When a trial is stopped before its end, one rule a file.
//!
//! To add one: a file with a documented struct of its options that implements [`Stop`], and one line in the list below.

mod asha;
mod hyperband;
mod median;

use std::fmt::Debug;

/// A trial, and its score at a step, the larger the better.
pub type Reached = (i64, f64);

/// A rule that stops trials that fare worse than others did at the same step.
pub trait Stop: Debug {
    /// Whether a trial stops that has reached a step (an epoch, counted from 1 over all stages), beside all trials that did, itself included.
    fn stops(&self, step: u64, me: Reached, all: &[Reached]) -> bool;
}

sinter_model::choices! {
    /// When a trial is stopped before its end.
    pub enum Stopping: dyn Stop {
        "asha" => Asha(asha::Asha),
        "hyperband" => Hyperband(hyperband::Hyperband),
        "median" => Median(median::Median),
    }
    default Asha
}
