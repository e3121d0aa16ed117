//! What a model is asked to do, and how well it does it: metrics, measurements and losses, one file each.
//!
//! A metric says what it is called, which way is better, how it is written and what losing some of it means ([`Metric`]); everything that
//! compares qualities (guards, budgets, comparisons, charts) asks it, and none knows any metric by name. A metric's computation is a
//! [`Measure`] in `metrics/`.

mod error;
mod evaluate;
mod examined;
pub mod losses;
mod measurement;
mod metric;
pub mod metrics;
mod objective;
pub mod tasks;

pub use error::{CommandError, TaskError};
pub use evaluate::{Predict, evaluate, evaluate_with, examine, examine_model};
pub use examined::{Examined, Paired};
pub use losses::{HardTargets, SoftTargets};
pub use measurement::Measurement;
pub use metric::{Better, Degradation, Loss, Metric, Unit};
pub use metrics::{Alone, Measure, MetricChoice, area_under_curve};
pub use objective::{Objective, expose_logits, gives_probabilities};
