//! The stage `prune`: weights, rectangles of weights, channels or whole blocks are removed.
//!
//! Unstructured, rectangular and N:M pruning set a mask, which the file and the training keep. Structured pruning removes channels (and
//! blocks) from the graph: shapes really shrink, and what must shrink together is found from the operators' axes mappings (see
//! [`channels`]).

pub mod channels;
mod check;
mod config;
pub mod criteria;
mod gradual;
mod mask;
mod pattern;
mod refit;
mod removal;
mod residual;
mod resolve;
mod select;
mod sensitivity;
mod step;
mod structured;
mod target;
mod unstructured;

pub use config::{
    CubicConfig, IterativeConfig, LayerRatio, NmText, PruneConfig, Rewind, Schedule, Scope, StructuredConfig, UnstructuredConfig,
};
pub use criteria::{ChannelCriterion, WeightCriterion};
pub use mask::{magnitude_mask, nm_mask};
pub use removal::remove_channels;
pub use target::Target;
