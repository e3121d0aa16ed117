//! The links of a weight's encoding chain.

mod codebook;
mod grid;
mod mask;

pub use codebook::{Assignment, Codebook};
pub use grid::{Grid, GridShape, Levels};
pub use mask::{Mask, NmPattern};
