//! What a model costs on a target: multiply-accumulates, parameters, memory, time, and energy with its interval and source.
//!
//! An estimate says that it is one. Two energy figures are kept apart: a physical floor from the arithmetic and the bytes moved, and, for
//! boards with published measurements, what those say of an unseen model, with an interval. Unstructured sparsity and codebooks earn no
//! compute credit: the targets multiply every weight that is stored. N:M patterns earn it where the target's kernels skip their zeros.

mod board;
mod energy;
mod memory;
mod target;

pub use board::{Board, HeldOut, Interval, Published, Quantity, Reference, System};
pub use energy::{Costs, Footprint, LayerFootprint, costs, footprint};
pub use memory::{Life, MemoryEstimate, memory, place};
pub use target::{Core, FloorEnergy, GENERIC, Instruction, Measure, Profile, Rules, TFLITE, Target, Vela};
