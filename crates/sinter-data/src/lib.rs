//! Data sets to batches.
//!
//! A [`DataConfig`] names files; [`Dataset::open`] checks them and splits them; a [`Split`] gives batches, decoded in parallel and
//! in a deterministic order. Nothing but the current batch is decoded at a time: images and recordings stay on disk.

mod augment;
mod config;
mod dataset;
mod error;
mod features;
mod source;
mod split;
mod task;

pub use augment::Augment;
pub use config::{DataConfig, Normalize, SourceConfig, SplitConfig};
pub use dataset::Dataset;
pub use error::DataError;
pub use features::{Features, FrontEnd};
pub use source::{ArrayFacts, arrays, header};
pub use split::{Batch, Order, Split};
pub use task::{Asks, Classify, Embed, Labels, Language, MultiLabel, NO_LABEL, Reconstruct, Regress, Segment, Task, Transcribe};
