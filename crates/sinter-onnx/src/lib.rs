//! ONNX bytes to a [`Model`](sinter_model::Model) and back.
//!
//! [`load`] reads a file of opset 7 to 23 (and before, where nothing has changed), resolves control flow, lists everything that is not supported at once, infers
//! shapes, folds shape arithmetic away and checks the weights. [`save`] writes opset 21.

mod batch;
mod control;
mod early_softmax;
mod error;
mod export;
mod fold;
mod follows;
mod import;
mod inline;
mod inputs;
mod integer_ops;
#[allow(missing_docs, reason = "names are those of onnx.proto3, which documents them")]
pub mod proto;
mod reader;
mod spell;
mod taken;
mod tensor;
mod upgrade;
mod widen;

pub use error::{OnnxError, Unsupported};
pub use export::{Storage, export, save, save_narrow};
pub use fold::{drop_dead, fold};
pub use import::{Loaded, Options, import, load, read};
pub use inputs::{Interface, interface};
pub use tensor::{tensor_from_proto, tensor_to_proto};
