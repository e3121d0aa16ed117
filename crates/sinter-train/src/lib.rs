//! What stages share: the [`Stage`] trait, the plan that a stage resolves to, the context in which it runs, the training loop with its
//! optimizers and schedules, and the choice of layers.

mod callback;
mod checkpoint;
mod config;
mod context;
mod course;
mod error;
mod event;
mod fit;
mod forecast;
mod layers;
mod leaves;
pub mod optimizers;
mod plan;
pub mod schedules;
mod stage;
mod teacher;
mod teacher_ref;
mod train;
mod weight_by_weight;

pub use callback::{Callback, Moment, NoCallback};
pub use checkpoint::{Checkpoint, Checkpoints, NoCheckpoints};
pub use config::{DistillFrom, FitConfig};
pub use context::{Context, Memory, NoMemory};
pub use error::StageError;
pub use event::{Event, Events, Probe};
pub use fit::{fit, fit_with};
pub use forecast::{Encodings, Forecast};
pub use layers::{LayerPattern, covers, covers_one_of, matching};
pub use optimizers::Optimizer;
pub use plan::{LayerPlan, PassPlan, StepPlan};
pub use schedules::Schedule;
pub use stage::{Setting, Stage, Step, apply};
pub use teacher_ref::TeacherRef;
pub use train::{FitStep, TrainConfig};
pub use weight_by_weight::WeightByWeight;
