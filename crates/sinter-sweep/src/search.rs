//! What a sweep looks for: enough to say of trials which are better, without the pipeline that they are recipes of.

use serde::{Deserialize, Serialize};
use sinter_task::Metric;

use crate::config::{Figure, SweepConfig};
use crate::pareto::{Outcome, order, ranks};
use crate::space::Space;
use crate::store::{Store, StoreError};
use crate::trial::{State, Trial};

/// What is varied, and what counts.
#[derive(Debug, Clone)]
pub struct Search {
    /// What the user wrote.
    pub config: SweepConfig,
    /// What is varied.
    pub space: Space,
    /// What quality is measured by.
    pub metric: Metric,
}

/// Where it is kept beside the trials.
const KEY: &str = "search";

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    config: SweepConfig,
    metric: Metric,
}

impl Search {
    /// Keeps it beside the trials, for whoever looks at the store alone.
    pub fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let kept = Kept { config: self.config.clone(), metric: self.metric.clone() };
        let text = serde_json::to_string(&kept).unwrap_or_default();
        if store.meta(KEY)?.as_ref() == Some(&text) { Ok(()) } else { store.set_meta(KEY, &text) }
    }

    /// What a store's trials were begun for; `None` where it does not say so in a way that this version reads.
    pub fn kept(store: &Store) -> Result<Option<Self>, StoreError> {
        let Some(Kept { config, metric }) = store.meta(KEY)?.and_then(|text| serde_json::from_str(&text).ok()) else {
            return Ok(None);
        };
        Ok(Space::new(&config.space).ok().map(|space| Self { config, space, metric }))
    }

    /// Whether a trial's recipe lies in the space as it is now.
    pub fn holds(&self, trial: &Trial) -> bool {
        self.space.point(&trial.recipe).is_some()
    }

    /// What a trial comes to; `None` for one that did not come to its end, and where a figure is missing.
    pub fn outcome(&self, trial: &Trial) -> Option<Outcome> {
        if trial.state != State::Done {
            return None;
        }
        let loss = |figure: &Figure| {
            let value = *trial.figures.get(figure.name())?;
            Some(if *figure == Figure::Quality { -self.metric.score(value) } else { value }).filter(|v| v.is_finite())
        };
        let losses = self.config.objectives.iter().map(loss).collect::<Option<Vec<f64>>>()?;
        Some(Outcome { losses, violation: self.config.limits.violation(&trial.figures) })
    }

    /// The trials of the space as it is now that came to their end, from the best on, each with its rank: 0 is the front.
    pub fn ranked<'t>(&self, trials: &'t [Trial]) -> Vec<(usize, &'t Trial)> {
        let inside = trials.iter().filter(|t| self.holds(t));
        let done: Vec<(&Trial, Outcome)> = inside.filter_map(|t| Some((t, self.outcome(t)?))).collect();
        let outcomes: Vec<&Outcome> = done.iter().map(|(_, outcome)| outcome).collect();
        let ranks = ranks(&outcomes);
        order(&outcomes).into_iter().map(|i| (ranks[i], done[i].0)).collect()
    }

    /// The recipes that are run in full: the best that keep to the limits.
    pub fn finalists<'t>(&self, trials: &'t [Trial]) -> Vec<&'t Trial> {
        let keeps = |t: &&Trial| self.outcome(t).is_some_and(|o| o.violation == 0.0);
        self.ranked(trials).into_iter().map(|(_, t)| t).filter(keeps).take(self.config.finalists.count).collect()
    }
}
