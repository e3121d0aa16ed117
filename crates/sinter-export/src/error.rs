//! Why a model has no explicit quantized graph.

use sinter_model::OpError;

/// Why a model could not be written with explicit quantization.
#[derive(Debug, thiserror::Error)]
#[error("`{name}`: {source}")]
pub struct QdqError {
    pub name: String,
    pub source: OpError,
}
