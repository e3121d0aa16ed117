//! YAML to plan to run.
//!
//! [`Plan::read`] turns a pipeline file into a [`Plan`]: configuration parsed, data opened, model loaded, every stage checked. Nothing is
//! written before the plan stands. [`Plan::run`] then does the stages, keeps a checkpoint of each, and leaves the run folder. Events tell
//! what happens; nobody here prints.

mod artifacts;
mod budget;
mod checkpoint;
mod config;
mod diagnostic;
mod inspect;
mod key;
mod measure;
mod plan;
mod position;
mod record;
mod run;
mod store;

pub use checkpoint::{CheckpointError, read_checkpoint, write_checkpoint};
pub use config::{Export, ModelConfig, PipelineConfig, StageConfig};
pub use diagnostic::ConfigError;
pub use inspect::{InspectError, Inspection, inspect, read_target};
pub use plan::Plan;
pub use run::{RunError, RunOptions, RunOutcome};
