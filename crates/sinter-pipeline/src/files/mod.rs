//! What the user wrote: files of YAML, with the place of everything in them.

mod error;
mod positions;
mod source;

pub use error::ConfigError;
pub(crate) use source::Source;
