//! What the stages share: the [`Stage`] trait and its context, the training loop, losses, metrics, and the choice of layers.

mod event;
mod fit;
mod gradients;
mod guide;
mod layers;
mod loss;
mod metrics;
mod stage;
mod train;

pub use event::{Event, Events, Probe};
pub use fit::{DistillFrom, FitConfig, Optimizer, Schedule, fit, fit_guided};
pub use gradients::{fisher, saliency};
pub use guide::{Guide, Unguided};
pub use layers::{LayerPattern, covers, matching};
pub use loss::{Objective, Teaching, expose_logits};
pub use metrics::{Metric, Quality, area_under_curve, evaluate, evaluate_with};
pub use stage::{Context, Forgetful, Memory, Stage, StageError, TeacherRef};
pub use train::TrainConfig;
