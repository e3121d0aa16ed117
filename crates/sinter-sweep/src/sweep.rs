//! A sweep that was read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sinter_pipeline::{Changes, ConfigError, Opened, Plan, Source};
use sinter_task::Metric;

use crate::config::{Figure, SweepConfig};
use crate::pareto::Outcome;
use crate::space::{Space, SpaceError};
use crate::trial::{State, Trial};

/// So many can be compared two by two; of more, no p could be small enough.
const MOST_FINALISTS: usize = 10;

/// A sweep that was read and checked, and where it lies.
#[derive(Debug)]
pub struct Sweep {
    /// What the user wrote.
    pub config: SweepConfig,
    /// What is varied.
    pub space: Space,
    /// The sweep file.
    pub path: PathBuf,
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The folder of all runs.
    pub out: PathBuf,
    /// What quality is measured by.
    pub metric: Metric,
    /// The pipeline as it stands in its file: the hash of all that its result depends on.
    pub base: String,
    /// Recipes share their data.
    opened: Opened,
}

impl Sweep {
    /// Reads a sweep file, and the pipeline at two ends of the space; nothing is written.
    pub fn read(path: &Path, out: &Path) -> Result<Self, ConfigError> {
        let source = Source::read(path)?;
        // A key that stands there twice is an error here, and would be lost there.
        let _each_once: serde_yaml::Value = source.parse()?;
        let config: SweepConfig = source.parse()?;
        source.names_folder(&config.name)?;
        let at = |key: &str| if key.is_empty() { "space".to_string() } else { format!("space.{key}") };
        let wrong = |e: SpaceError| source.error(&at(&e.key), e.reason, Some(e.help));
        let space = Space::new(&config.space).map_err(wrong)?;
        if let Some(reason) = config.sampler.kind().unfit(&space) {
            return Err(source.error("sampler", reason, None));
        }
        if config.objectives.is_empty() {
            return Err(source.error(
                "objectives",
                "nothing counts",
                Some("name one figure or more, such as [quality, packed]".into()),
            ));
        }
        if config.finalists.count > MOST_FINALISTS {
            let message = format!("{} finalists are too many to be told apart", config.finalists.count);
            return Err(source.error("finalists.count", message, Some(format!("take at most {MOST_FINALISTS}"))));
        }
        if config.stop.is_some() && config.objectives != [Figure::Quality] {
            let help = "set `objectives: [quality]` and the others as `limits`, or leave `stop` out".to_string();
            return Err(source.error(
                "stop",
                "trials are stopped by their quality on the way, which says nothing of other figures",
                Some(help),
            ));
        }
        let pipeline = path.parent().unwrap_or(Path::new("")).join(&config.pipeline);
        let opened = Opened::default();
        let base = Plan::read_with(&pipeline, &Changes { seed: Some(config.seed), set: vec![] }, &opened)?.key();
        let (path, out, metric) = (path.to_path_buf(), out.to_path_buf(), Metric::share(""));
        let mut sweep = Self { config, space, path, pipeline, out, metric, base, opened };
        for end in [0.0, 1.0] {
            let point = sweep.space.draw(|_, values| match values.count() {
                Some(count) => values.nth(if end == 0.0 { 0 } else { count - 1 }),
                None => end,
            });
            let plan = sweep.plan(&sweep.space.values(&point), sweep.config.seed)?;
            if plan.data.validation.is_empty() {
                let help = "set `split: { validation: 10% }` in the data file".to_string();
                let message = format!("recipes are chosen on a validation split, and data set `{}` has none", plan.data.name);
                return Err(source.error("pipeline", message, Some(help)));
            }
            let has_board = plan.target.board.is_some();
            let wanted = [
                ("objectives", sweep.config.objectives.contains(&Figure::Latency)),
                ("limits.latency", sweep.config.limits.latency.is_some()),
            ];
            if let Some((key, _)) = wanted.into_iter().find(|(_, wanted)| *wanted && !has_board) {
                let help = "name a target with a board in the pipeline, such as configs/targets/cortex-m7.yaml".to_string();
                return Err(source.error(
                    key,
                    format!("nothing is known of latency on target `{}`", plan.target.name),
                    Some(help),
                ));
            }
            sweep.metric = plan.metric().kind().metric();
        }
        Ok(sweep)
    }

    /// The pipeline of a recipe.
    pub fn plan(&self, recipe: &BTreeMap<String, String>, seed: u64) -> Result<Plan, ConfigError> {
        Plan::read_with(&self.pipeline, &Changes { seed: Some(seed), set: Space::changes(recipe) }, &self.opened)
    }

    /// The sweep's own folder.
    pub fn folder(&self) -> PathBuf {
        self.out.join("sweeps").join(&self.config.name)
    }

    /// Its store.
    pub fn store_path(&self) -> PathBuf {
        self.folder().join("sweep.db")
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
        let ranks = crate::pareto::ranks(&outcomes);
        crate::pareto::order(&outcomes).into_iter().map(|i| (ranks[i], done[i].0)).collect()
    }

    /// The recipes that are run in full: the best that keep to the limits.
    pub fn finalists<'t>(&self, trials: &'t [Trial]) -> Vec<&'t Trial> {
        let keeps = |t: &&Trial| self.outcome(t).is_some_and(|o| o.violation == 0.0);
        self.ranked(trials).into_iter().map(|(_, t)| t).filter(keeps).take(self.config.finalists.count).collect()
    }
}
