//! What a model costs on a target: multiply-accumulates, parameters, and energy with its interval and source.
//!
//! An estimate says that it is one. Two energy figures are kept apart: a physical floor from the arithmetic and the bytes moved, and, for
//! boards with published measurements, a range per multiply-accumulate. Unstructured sparsity and codebooks earn no compute credit: the
//! targets multiply every weight that is stored.

mod energy;
mod memory;
mod target;

pub use energy::{EnergyEstimate, Footprint, LayerFootprint, energy, footprint};
pub use memory::{Life, MemoryEstimate, memory, place};
pub use target::{BoardEnergy, FloorEnergy, GENERIC, Latency, Profile, Rules, TFLITE, Target};
