//! Files that nobody meant to write: what Sinter reads, mutated with an eye for its structure.
//!
//! A target is a kind of file: seeds that are right, a way to make them wrong, and what is done with the result. Whatever that is, it must end with
//! an answer or an error, soon, and without taking all memory.

mod bytes;
mod onnx;
mod targets;
mod yaml;

pub use targets::{TARGETS, Target};

/// What a panic that became an error still is here.
pub fn panics() -> usize {
    sinter_model::panics_caught()
}
