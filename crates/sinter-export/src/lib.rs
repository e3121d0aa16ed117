//! What a run leaves behind: the packed file, and ONNX that real runtimes load and measure.

mod dynamic;
mod explicit;
pub mod packed;
mod runtime;

pub use explicit::{Explicit, QdqError, explicit};
pub use packed::{PackError, Packed, pack, unpack};
pub use runtime::{OnnxRuntime, RuntimeError};
