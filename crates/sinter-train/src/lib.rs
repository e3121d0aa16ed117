//! What the stages share: the [`Stage`] trait and its context, the training loop, losses, metrics, and the choice of layers.

mod event;
mod fit;
mod gradients;
mod layers;
mod loss;
mod metrics;
mod stage;
mod train;

pub use event::{Event, Events};
pub use fit::{DistillFrom, FitConfig, Optimizer, Schedule, fit};
pub use gradients::saliency;
pub use layers::{LayerPattern, covers, matching};
pub use loss::{Objective, Teaching};
pub use metrics::{Metric, Quality, area_under_curve, evaluate, evaluate_with};
pub use stage::{Context, Stage, StageError, TeacherRef};
pub use train::TrainConfig;
