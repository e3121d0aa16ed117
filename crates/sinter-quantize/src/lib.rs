//! The stage `quantize`: weights and activations in integers.
//!
//! What the user wrote is resolved against model and target into formats, layer by layer, and a list of [passes], which then run one after the
//! other: batch normalisation is folded, scale moves between layers where that helps, one streaming pass over calibration samples gives all
//! statistics, weights are rounded, biases corrected, and with `mode: qat` the model trains with quantization simulated (Jacob et al., 2018)
//! and learns its scales. The guard `accuracy_drop` lifts the layers that cost too much.

mod activations;
mod bias;
mod bridges;
pub mod calibrations;
mod check;
mod config;
mod dynamic_nodes;
mod formats;
mod in_float;
mod kernels;
mod lifting;
mod mixed;
mod pairs;
mod passes;
mod placement;
mod read_through;
mod resolve;
mod resolved;
pub mod rounding;
mod sketch;
mod state;
mod step;
mod timing;
mod training;
mod weights;

pub use calibrations::Calibration;
pub use config::{LayerFormat, Mode, QuantizeConfig, Scales, Scaling};
pub use formats::{Activations, Choice, Format, Number, Per};
pub use mixed::config::MixedConfig;
pub use rounding::{Rounding, gptq};
