//! Many recipes of one pipeline, tried one after the other or side by side:
//!
//! 1. `config` and `space`: what the user wrote, and what is varied.
//! 2. `samplers`: which recipe is tried next, by what `pareto` says is better; `stopping`: which trials end early.
//! 3. `chooser` asks the sampler; `store`: what was tried, is, and will be; several processes share it.
//! 4. `work`: takes a trial, runs the pipeline's stages, writes down what came of it. `drive` starts several of these, where `executors` say.
//! 5. `finals`: the best recipes in full, with other seeds, compared on the test split.
//! 6. `table`: all trials as a table; `comparison`: a page of them.
//!
//! Recipes are chosen on the validation split alone. Stages that recipes share are done once: the pipeline's cache sees to it.

mod chooser;
mod comparison;
mod config;
mod drive;
mod executors;
mod finals;
pub mod pareto;
mod samplers;
mod search;
mod space;
mod standing;
mod stopping;
mod store;
mod sweep;
mod table;
mod trial;
mod values;
mod work;

pub use chooser::{Chooser, Chosen};
pub use comparison::{compare, text};
pub use config::{Figure, Finalists, LOST, Limits, SweepConfig, schema};
pub use drive::{delegate, drive};
pub use executors::{Command, Crew, Ended, Execute, Executor, ExecutorError};
pub use finals::{Final, FinalRun, Finals, LEVEL, Versus, finals};
pub use samplers::{Asked, Sample, Sampler, Taken, next};
pub use search::Search;
pub use space::{Choices, Domain, Parameter, Point, Range, Space, SpaceError};
pub use standing::Standing;
pub use stopping::{Reached, Stop, Stopping};
pub use store::{LOSSES, Store, StoreError, TRIES};
pub use sweep::Sweep;
pub use table::table;
pub use trial::{State, Trial};
pub use values::{Axis, Values};
pub use work::{Said, SweepError, Tell, Working, work};
