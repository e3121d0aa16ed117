//! What a run tells while it goes on. The terminal, `--json`, the tables and the report listen; no stage prints.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A run began.
    RunStarted {
        /// Its name.
        pipeline: String,
        /// Where it leaves its files.
        folder: PathBuf,
        /// Names of its stages.
        stages: Vec<String>,
    },
    /// A stage began.
    StageStarted {
        /// Its name.
        stage: String,
        /// Counted from 1.
        index: usize,
        /// Of how many.
        stages: usize,
    },
    /// The stage was done by an earlier run; its result was read from the cache.
    StageCached {
        /// Its name.
        stage: String,
        /// Counted from 1.
        index: usize,
        /// Of how many.
        stages: usize,
    },
    /// A stage goes on where an earlier run was stopped or killed.
    StageResumed {
        /// How far it was: `epoch 3 of 8, step 120 of 469`.
        at: String,
    },
    /// How far a stage is was kept; a run that is stopped goes on there.
    StageKept {
        /// How far it is.
        at: String,
    },
    /// An epoch of training ended.
    Epoch {
        /// Counted from 1.
        epoch: usize,
        /// Of how many.
        epochs: usize,
        /// The mean over the epoch.
        loss: f64,
        /// What quality is measured by.
        metric: String,
        /// The metric on the validation split, where there is one.
        value: Option<f64>,
        /// What the epoch took.
        seconds: f64,
    },
    /// Work within a stage went on.
    Progress {
        /// What is being done.
        what: String,
        /// How much of it is.
        done: usize,
        /// Of how much.
        total: usize,
    },
    /// Something that a user should know but that stops nothing.
    Note {
        /// What there is to say.
        text: String,
    },
    /// A scan found what quality (in the metric's unit) is lost when one layer alone is compressed.
    Sensitivity {
        /// Its name.
        layer: String,
        /// What was done to it.
        probe: Probe,
        /// The share, or the bits.
        at: f64,
        /// In the metric's unit.
        lost: f64,
    },
    /// What calibration saw of a value: the least and the greatest.
    Range {
        /// Its name.
        value: String,
        /// The least.
        low: f64,
        /// The greatest.
        high: f64,
    },
    /// A stage ended.
    StageFinished {
        /// Its name.
        stage: String,
        /// Counted from 1.
        index: usize,
        /// Bytes of the packed file.
        size: u64,
        /// What quality is measured by.
        metric: String,
        /// The metric on the test split.
        value: f64,
        /// What the stage took.
        seconds: f64,
    },
    /// What became of one part of the budget.
    Verdict {
        /// What was asked, and what became of it.
        text: String,
        /// Whether it was kept.
        met: bool,
    },
    /// A file was written.
    Artifact {
        /// Where it is.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A run ended.
    RunFinished {
        /// Where its files are.
        folder: PathBuf,
        /// The page.
        report: PathBuf,
        /// The answer in one line.
        summary: String,
        /// What its stages took.
        seconds: f64,
    },
}

/// What a sensitivity scan does to one layer at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// Removes a share of its weights or channels.
    Share,
    /// Rounds its weight to so many bits.
    Bits,
}

/// Where events go.
pub type Events<'a> = &'a (dyn Fn(Event) + 'a);
