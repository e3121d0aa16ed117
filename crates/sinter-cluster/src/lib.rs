//! The stage `cluster`: weights share a few values (Han et al., Deep Compression, 2016).
//!
//! Scalar codebooks come from one-dimensional k-means (see [`algorithms::scalar`]), vector codebooks from the `kmeans` crate, the number of centroids
//! from the user or from a budget of bytes. Pruned weights keep a centroid of their own at zero. Fine-tuning moves the centroids by the
//! summed gradients of their clusters; assignments stay, or follow the weights on a schedule, at a price for bits if the user wants.

pub mod algorithms;
mod budget;
mod codebooks;
mod config;
mod reassign;
mod resolve;
mod step;

pub use config::{ClusterConfig, Importance, LayerCentroids, Precision, Scope};
