//! What a run leaves behind: the packed file, ONNX that real runtimes load and measure, and programs for devices as TFLite and C.

pub mod c;
pub mod device;
mod dynamic;
mod error;
mod explicit;
mod look_up;
mod micro;
pub mod packed;
mod runtime;
mod tflite;
mod vela;

pub use error::QdqError;
pub use explicit::{Explicit, dequantized, explicit};
pub use micro::arena;
#[doc(hidden)]
pub use packed::with_checksum;
pub use packed::{PackError, Packed, pack, unpack};
pub use runtime::{KernelTime, OnnxRuntime, RuntimeError, peak_memory, runtime_version};
pub use tflite::{operators, tflite};
pub use vela::{Compiled, vela};
