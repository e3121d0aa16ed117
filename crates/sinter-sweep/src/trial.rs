//! A trial: a recipe, how it stands, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody is at it.
    Waiting,
    /// Somebody is.
    Running,
    /// It came to its end.
    Done,
    /// It was stopped early: others were better at the same step.
    Stopped,
    /// It failed every time.
    Failed,
}

impl State {
    pub(crate) const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Done, Self::Stopped, Self::Failed];

    /// Whether it stays as it is.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Failed)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// A recipe that was tried, is, or will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Counted from 1.
    pub id: i64,
    /// How it stands.
    pub state: State,
    /// The sampler that chose it, or `added`.
    pub origin: String,
    /// What is varied, by key, as it is written.
    pub recipe: BTreeMap<String, String>,
    /// Of the run.
    pub seed: u64,
    /// How often it was begun.
    pub tries: i64,
    /// What it took, as long as it was computed and not read from the cache.
    pub seconds: Option<f64>,
    /// What came of it, by name.
    pub figures: BTreeMap<String, f64>,
    /// What is to be said of it: why it failed.
    pub text: String,
}

impl Trial {
    /// Its recipe in words, keys without what all of them begin with.
    pub fn words(&self) -> String {
        let word = |(key, value): (&String, &String)| format!("{}={value}", key.strip_prefix("stages.").unwrap_or(key));
        self.recipe.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}
