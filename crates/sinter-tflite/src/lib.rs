//! TFLite files, whoever made them, as models: what `certify` reads. Sinter's own are written by `sinter-export`.

mod error;
mod import;
mod operators;
mod reader;
mod schema;

pub use error::TfliteError;
pub use import::{import, load};
