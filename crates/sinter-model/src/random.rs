//! Random values, each from a seed that is told. libtorch has one generator for the whole process, so that whoever draws from it beside
//! others gets what chance leaves him; here it is locked, seeded, and drawn from in one go.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, TchError, Tensor};

static GENERATOR: Mutex<()> = Mutex::new(());

/// The generator while it is ours alone (see [`seeded`]). Shapes are as given, values float32.
pub struct Random(());

/// Draws from libtorch's generator, started from `seed`: the same values whatever else is drawn by it elsewhere in the process (dropout
/// draws without the lock, and never beside it in a run). Drawing again inside of `draw` would wait for itself.
pub fn seeded<T>(seed: u64, draw: impl FnOnce(&mut Random) -> T) -> T {
    let _held = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    start_from(seed);
    draw(&mut Random(()))
}

/// Starts libtorch's generator from `seed`, for what draws from it by itself: dropout in training.
#[expect(clippy::disallowed_methods, reason = "the one place that seeds it")]
pub fn start_from(seed: u64) {
    tch::manual_seed(seed as i64);
}

#[expect(clippy::disallowed_methods, reason = "the one place that draws")]
impl Random {
    /// From the normal distribution of mean 0 and variance 1.
    pub fn normal(&mut self, shape: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_randn(shape, (Kind::Float, Device::Cpu))
    }

    /// Evenly from 0 up to 1.
    pub fn uniform(&mut self, shape: &[i64]) -> Result<Tensor, TchError> {
        Tensor::f_rand(shape, (Kind::Float, Device::Cpu))
    }
}
