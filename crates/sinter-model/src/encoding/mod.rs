//! The links of a weight's encoding chain.

mod codebook;
mod half;
mod integer;
mod mask;
mod params;
mod quantizer;

pub use codebook::{Assignment, Codebook};
pub use half::Half;
pub use integer::{Multiplier, integer_bias};
pub use mask::{Mask, NmPattern};
pub use params::{Granularity, Levels, QuantParams};
pub use quantizer::Quantizer;
