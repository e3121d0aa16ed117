//! A sweep as YAML describes it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Bytes, Joules, Ratio, Seconds};

use crate::executors::Executor;
use crate::samplers::Sampler;
use crate::space::Domain;
use crate::stopping::Stopping;

/// A sweep file: a pipeline, what is varied of it, and what counts. Paths are relative to it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepConfig {
    /// Names the folder of its store: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The pipeline file that is varied. It stays as it is; its data must have a validation split, by which recipes are chosen.
    pub pipeline: PathBuf,
    /// Of the sampler, and of every trial. Default: 1.
    #[serde(default = "seed")]
    pub seed: u64,
    /// What is varied, by keys as `--set` has them: choices such as `[8, 16]`, ranges such as `{ from: 50%, to: 95% }`, a whole stage as `[on, off]`. What stands
    /// in a stage that is off is not varied then, nor what has a `when` that does not hold.
    pub space: BTreeMap<String, Domain>,
    /// What counts; with more than one the result is a front. Default: quality and packed.
    #[serde(default = "objectives")]
    pub objectives: Vec<Figure>,
    /// What a recipe must keep to; one that does not is worse than any that does. Default: nothing.
    #[serde(default)]
    pub limits: Limits,
    /// How recipes are chosen. Default: tpe.
    #[serde(default)]
    pub sampler: Sampler,
    /// Recipes to try. Default: 40.
    #[serde(default = "trials")]
    pub trials: NonZeroUsize,
    /// When a trial is stopped before its end. Only where quality alone counts. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stopping>,
    /// What becomes of the best recipes.
    #[serde(default)]
    pub finalists: Finalists,
    /// Where workers run. Default: local.
    #[serde(default)]
    pub executor: Executor,
}

/// The best recipes are run in full, with other seeds, and compared on the test split.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Finalists {
    /// How many, of the front first. 0 for none. Default: 3.
    pub count: usize,
    /// Runs of each, with this sweep's seed and those that follow. Default: 3.
    pub seeds: NonZeroUsize,
}

impl Default for Finalists {
    fn default() -> Self {
        const { Self { count: 3, seeds: NonZeroUsize::new(3).unwrap() } }
    }
}

fn seed() -> u64 {
    1
}

fn trials() -> NonZeroUsize {
    const { NonZeroUsize::new(40).unwrap() }
}

fn objectives() -> Vec<Figure> {
    vec![Figure::Quality, Figure::Packed]
}

/// A figure that a recipe is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// The pipeline's metric on the validation split.
    Quality,
    /// Bytes of the packed file.
    Packed,
    /// Bytes of weights on a device.
    Flash,
    /// Bytes of activations on a device.
    Ram,
    /// Multiply-accumulates of one inference.
    Macs,
    /// Stored numbers that are not zero.
    Nonzero,
    /// Joules of one inference: on the target's board where it has one, else the floor.
    Energy,
    /// Seconds of one inference on the target's board.
    Latency,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Quality, Self::Packed, Self::Flash, Self::Ram, Self::Macs, Self::Nonzero, Self::Energy, Self::Latency];

    /// Its name in a store and in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Packed => "packed",
            Self::Flash => "flash",
            Self::Ram => "ram",
            Self::Macs => "macs",
            Self::Nonzero => "nonzero",
            Self::Energy => "energy",
            Self::Latency => "latency",
        }
    }
}

/// What a recipe must keep to.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of the float model's quality, on the validation split: `1%` is one point where the metric has a scale of its own, else one hundredth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<Ratio>,
    /// Of the packed file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Bytes>,
    /// Of weights on a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash: Option<Bytes>,
    /// Of activations on a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<Bytes>,
    /// Multiply-accumulates of one inference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<u64>,
    /// Of one inference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Seconds>,
    /// Of one inference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Joules>,
}

/// The share of the float model's quality that a recipe loses, among the figures of a trial.
pub const LOST: &str = "lost";

impl Limits {
    /// By how much figures exceed the limits: the sum of the shares beyond each. A figure that is missing keeps to no limit.
    pub fn violation(&self, figures: &BTreeMap<String, f64>) -> f64 {
        let beyond = |name: &str, limit: Option<f64>| {
            let Some(limit) = limit else { return 0.0 };
            let Some(value) = figures.get(name).filter(|v| v.is_finite()) else { return 1.0 };
            ((value - limit) / limit.abs().max(1e-9)).max(0.0)
        };
        let bytes = |limit: Option<Bytes>| limit.map(|b| b.0 as f64);
        beyond(LOST, self.accuracy_drop.map(|r| r.get() + 1e-9))
            + beyond("packed", bytes(self.packed))
            + beyond("flash", bytes(self.flash))
            + beyond("ram", bytes(self.ram))
            + beyond("macs", self.macs.map(|m| m as f64))
            + beyond("latency", self.latency.map(|s| s.0))
            + beyond("energy", self.energy.map(|j| j.0))
    }
}

/// The JSON Schema (draft 2020-12) of a sweep file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(SweepConfig).to_value()
}
