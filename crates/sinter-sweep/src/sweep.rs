//! A sweep that was read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sinter_pipeline::{Changes, ConfigError, Opened, Plan, Source};
use sinter_task::Metric;

use crate::config::{Figure, SweepConfig};
use crate::search::Search;
use crate::space::{Space, SpaceError};

/// So many can be compared two by two; of more, no p could be small enough.
const MOST_FINALISTS: usize = 10;

/// A sweep that was read and checked, and where it lies.
#[derive(Debug)]
pub struct Sweep {
    /// What is looked for.
    pub search: Search,
    /// The sweep file.
    pub path: PathBuf,
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The folder of all runs.
    pub out: PathBuf,
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
        let (path, out) = (path.to_path_buf(), out.to_path_buf());
        let search = Search { config, space, metric: Metric::share("") };
        let mut sweep = Self { search, path, pipeline, out, base, opened };
        for end in [0.0, 1.0] {
            let point = sweep.search.space.draw(|_, values| match values.count() {
                Some(count) => values.nth(if end == 0.0 { 0 } else { count - 1 }),
                None => end,
            });
            let plan = sweep.plan(&sweep.search.space.values(&point), sweep.search.config.seed)?;
            if plan.data.validation.is_empty() {
                let help = "set `split: { validation: 10% }` in the data file".to_string();
                let message = format!("recipes are chosen on a validation split, and data set `{}` has none", plan.data.name);
                return Err(source.error("pipeline", message, Some(help)));
            }
            let has_board = plan.target.board.is_some();
            let wanted = [
                ("objectives", sweep.search.config.objectives.contains(&Figure::Latency)),
                ("limits.latency", sweep.search.config.limits.latency.is_some()),
            ];
            if let Some((key, _)) = wanted.into_iter().find(|(_, wanted)| *wanted && !has_board) {
                let help = "name a target with a board in the pipeline, such as configs/targets/cortex-m7.yaml".to_string();
                return Err(source.error(
                    key,
                    format!("nothing is known of latency on target `{}`", plan.target.name),
                    Some(help),
                ));
            }
            sweep.search.metric = plan.metric().kind().metric();
        }
        Ok(sweep)
    }

    /// The pipeline of a recipe.
    pub fn plan(&self, recipe: &BTreeMap<String, String>, seed: u64) -> Result<Plan, ConfigError> {
        Plan::read_with(&self.pipeline, &Changes { seed: Some(seed), set: Space::changes(recipe) }, &self.opened)
    }

    /// The sweep's own folder.
    pub fn folder(&self) -> PathBuf {
        self.out.join("sweeps").join(&self.search.config.name)
    }

    /// Its store.
    pub fn store_path(&self) -> PathBuf {
        self.folder().join("sweep.db")
    }
}
