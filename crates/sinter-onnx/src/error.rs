//! What can be wrong with an ONNX file.

use std::fmt;
use std::path::PathBuf;

use sinter_exec::ExecError;
use sinter_model::{Bytes, OpError, WriteError};

/// A node that Sinter can't run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub kind: String,
    /// Why it can't run.
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
    /// The file could not be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It is no ONNX file, or part of one.
    #[error("this is not a complete ONNX file ({0}); it may be truncated or of another format: export or copy it again")]
    Decode(String),
    /// There is no graph in it.
    #[error("the file holds no graph; it may be truncated or of another format: export or copy it again")]
    NoGraph,
    /// It wants an operator set that is too old or too new.
    #[error("opset {0} is not supported (1 to 23 are): export the model again with `opset_version=17` or so")]
    Opset(i64),
    /// Nodes can't run; all of them at once.
    #[error("{} can't run:\n{}", count(.0), list(.0))]
    Unsupported(Vec<Unsupported>),
    /// A stored tensor is not what it should be.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    #[error(
        "input `{name}` has a free dimension `{dim}` at axis {axis}: give its length under `dims`, such as `dims: {{ {dim}: 16 }}` or \
         `dims: {{ {name}.{axis}: 16 }}` (`--dim {name}.{axis}=16` for `inspect` and `certify`)"
    )]
    /// A dimension other than the batch is free.
    FreeDim {
        /// Its name.
        name: String,
        /// The dimension.
        dim: String,
        /// Which axis of the input it is.
        axis: usize,
        /// The inputs that data must give.
        needed: Vec<String>,
    },
    /// The file is larger than what may be read.
    #[error("the file has {bytes}, more than the limit of {limit}: raise it with --memory where that is meant")]
    File {
        /// Its size.
        bytes: Bytes,
        /// The limit.
        limit: Bytes,
    },
    /// Something in it led nowhere.
    #[error("the file makes no sense ({0}); it may be damaged: export or copy it again, and report it if it runs elsewhere")]
    Nonsense(String),
    /// A name stands for more than one value.
    #[error("`{0}` is the name of more than one input, stored tensor or result: names must be unique")]
    Twice(String),
    /// Nodes wait for each other.
    #[error("nodes {0:?} can never run: they read values that nothing produces, or each other")]
    Order(Vec<String>),
    /// A weight holds what is no number.
    #[error("weight `{name}` holds {what}: the model was damaged in training or export")]
    NotFinite {
        /// The weight.
        name: String,
        /// `NaN` or `infinity`.
        what: &'static str,
    },
    /// It does not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A weight has no value to write.
    #[error("weight `{weight}`: {source}")]
    Weight {
        /// The weight.
        weight: String,
        /// What went wrong.
        source: OpError,
    },
}

fn count(list: &[Unsupported]) -> String {
    if list.len() == 1 { "1 node".into() } else { format!("{} nodes", list.len()) }
}

fn list(list: &[Unsupported]) -> String {
    list.iter().map(|u| u.to_string()).collect::<Vec<_>>().join("\n")
}
