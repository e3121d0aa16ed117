//! What the user wrote: files of YAML that may stand upon one another, and changes for one run, with the place of everything in them.

mod error;
mod extends;
mod layer;
mod merge;
mod paths;
mod positions;
mod set;
mod source;
mod stages;
mod texts;
mod tree;
mod variables;
mod words;

pub use error::ConfigError;
pub(crate) use paths::Paths;
pub use source::Source;
