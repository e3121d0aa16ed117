//! From a YAML file to a report, in rooms that follow one another and never look back:
//!
//! 1. `files`: what the user wrote, with the place of every key.
//! 2. `resolve`: [`Plan::read`] opens data and model and resolves every stage against them; all that can be refused is refused here, and
//!    nothing is written before the plan stands.
//! 3. `schedule`: in which order stages are done, with which seed and key, and what each needs of others.
//! 4. `execute`: [`Plan::run`] does what the cache (`store`) does not hold, from where an earlier run was stopped; `journal` writes down where it stands, an
//!    `interrupt` asks it to stop, [`status`] reads the journals of all runs.
//! 5. `measure`: what each stage left, looked at once through a `snapshot`.
//! 6. `artefacts`: files for real runtimes, and what those make of them.
//! 7. `record` and `judge`: what there is to tell, and whether it keeps to the budget.
//!
//! `trial` does the stages alone, for sweeps. `init` stands above them all: it thinks out a first pipeline by reading guesses as any pipeline is read.
//!
//! Events tell what happens; nobody here prints.

mod artefacts;
mod config;
mod execute;
mod files;
mod init;
mod inspect;
mod interrupt;
mod journal;
mod judge;
mod measure;
mod preview;
mod record;
mod resolve;
mod schedule;
mod schema;
mod snapshot;
mod status;
mod store;
mod trial;

pub use artefacts::{ArtefactError, Unwritten};
pub use config::{Budget, Export, ModelConfig, PipelineConfig, StageConfig, StageEntry};
pub use execute::{RunError, RunOptions, RunOutcome};
pub use files::{ConfigError, Source};
pub use init::{Draft, FORMS, Goal, InitError, Request, draft};
pub use inspect::{InspectError, Inspection, inspect, read_target};
pub use interrupt::Interrupt;
pub use journal::{Progress, State};
pub use preview::{ChannelFacts, InputFacts, Preview, PreviewError, SplitFacts};
pub use resolve::{Changes, Opened, Outline, Plan, StageOutline};
pub use schema::{Schema, schema};
pub use status::{Standing, status};
pub use store::{CheckpointError, Entry, Finding, Kind, Prune, Store, StoreError};
pub use trial::Trial;
