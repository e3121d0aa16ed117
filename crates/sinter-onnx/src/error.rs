//! What can be wrong with an ONNX file.

use std::fmt;
use std::path::PathBuf;

use sinter_exec::ExecError;
use sinter_model::{OpError, WriteError};

/// A node that Sinter can't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    pub node: String,
    pub kind: String,
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} `{}`: {}", self.kind, self.node, self.reason)
    }
}

/// Why a file did not become a model, or a model a file.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("could not read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("this is not a complete ONNX file ({0}); it may be truncated or of another format: export or copy it again")]
    Decode(String),
    #[error("the file holds no graph; it may be truncated or of another format: export or copy it again")]
    NoGraph,
    #[error("opset {0} is not supported (7 to 21 are): export the model again with `opset_version=17` or so")]
    Opset(i64),
    #[error("{} can't run:\n{}", count(.0), list(.0))]
    Unsupported(Vec<Unsupported>),
    #[error("tensor `{name}`: {reason}")]
    Tensor { name: String, reason: String },
    #[error(
        "input `{name}` has a free dimension `{dim}` at axis {axis}: give its length under `dims`, such as `dims: {{ {dim}: 16 }}`"
    )]
    FreeDim { name: String, dim: String, axis: usize },
    #[error("nodes {0:?} can never run: they read values that nothing produces, or each other")]
    Order(Vec<String>),
    #[error("weight `{0}` holds NaN: the model was damaged in training or export")]
    Nan(String),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("weight `{weight}`: {source}")]
    Weight { weight: String, source: OpError },
}

fn count(list: &[Unsupported]) -> String {
    if list.len() == 1 { "1 node".into() } else { format!("{} nodes", list.len()) }
}

fn list(list: &[Unsupported]) -> String {
    list.iter().map(|u| u.to_string()).collect::<Vec<_>>().join("\n")
}
