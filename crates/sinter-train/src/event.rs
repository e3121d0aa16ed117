//! What a run tells while it goes on. The terminal, `--json`, the tables and the report listen; no stage prints.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    RunStarted {
        pipeline: String,
        folder: PathBuf,
        stages: Vec<String>,
    },
    StageStarted {
        stage: String,
        index: usize,
        stages: usize,
    },
    /// The stage was done by an earlier run; its result was read from the cache.
    StageCached {
        stage: String,
        index: usize,
        stages: usize,
    },
    /// An epoch of training ended.
    Epoch {
        epoch: usize,
        epochs: usize,
        loss: f64,
        metric: String,
        value: Option<f64>,
        seconds: f64,
    },
    /// Work within a stage went on.
    Progress {
        what: String,
        done: usize,
        total: usize,
    },
    /// Something that a user should know but that stops nothing.
    Note {
        text: String,
    },
    /// A scan found what quality (in the metric's unit) is lost when one layer alone is compressed.
    Sensitivity {
        layer: String,
        probe: Probe,
        at: f64,
        lost: f64,
    },
    /// What calibration saw of a value: the least and the greatest.
    Range {
        value: String,
        low: f64,
        high: f64,
    },
    StageFinished {
        stage: String,
        index: usize,
        size: u64,
        metric: String,
        value: f64,
        seconds: f64,
    },
    /// What became of one part of the budget.
    Verdict {
        text: String,
        met: bool,
    },
    Artifact {
        path: PathBuf,
        bytes: u64,
    },
    RunFinished {
        folder: PathBuf,
        report: PathBuf,
        summary: String,
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
