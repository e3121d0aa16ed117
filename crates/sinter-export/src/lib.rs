//! What a run leaves behind: the packed file, and ONNX that real runtimes load and measure.

pub mod packed;
mod qdq;
mod runtime;

pub use packed::{PackError, Packed, pack, unpack};
pub use qdq::{QdqError, quantized_graph};
pub use runtime::{OnnxRuntime, RuntimeError};
