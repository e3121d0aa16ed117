//! The model as microcontrollers and phones run it: channels last, activations fused, integers from input to output where the model is
//! quantized so. TFLite files and C sources are two ways to write the same [`Program`].

mod activation;
mod arithmetic;
mod error;
pub(crate) mod flat;
mod layout;
mod lower;
mod lowering;
mod memory;
mod operators;
mod program;
mod reference;
pub(crate) mod source;
mod tensor;
mod window;

pub use activation::Activation;
pub use arithmetic::Rounding;
pub use error::LowerError;
pub use lower::lower;
pub use memory::{Memory, plan};
pub use operators::{Support, support};
pub use program::{Builtin, Program, Step};
pub use reference::{integers, run};
pub use tensor::{Element, TensorInfo};

pub(crate) use operators::c_kernels;
pub(crate) use program::Io;
