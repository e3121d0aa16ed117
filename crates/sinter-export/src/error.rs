//! Why a model has no explicit quantized graph.

use sinter_model::OpError;

/// Why a model could not be written with explicit quantization.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {source}")]
pub struct QdqError {
    /// The value or weight.
    pub name: String,
    /// What went wrong.
    pub source: OpError,
}
