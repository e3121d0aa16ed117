//! How centroids are found, one file an algorithm: single values by near-optimal one-dimensional k-means, vectors of values by product
//! quantization.
//!
//! To add one: a file whose first lines say what it is, when to use it, its paper and its cost, with a function from values to a codebook, and
//! the line in [`crate::codebooks`] that calls it.

pub mod scalar;
pub(crate) mod vector;
