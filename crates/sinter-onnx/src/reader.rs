//! A model as it is put together from a file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use sinter_model::Model;
use tch::Tensor;

use crate::error::Unsupported;
use crate::proto::FunctionProto;
use crate::taken::Taken;

/// What was read so far.
#[derive(Default)]
pub(crate) struct Reader<'a> {
    pub opset: i64,
    pub folder: Option<&'a Path>,
    pub model: Model,
    /// The real value of each operand of integers: by its name, scale, zero point and axis.
    pub dequantized: BTreeMap<(String, String, String, i64), String>,
    /// What nodes may call.
    pub functions: Vec<FunctionProto>,
    /// Names of values that the file's own graph has, or that were made for bodies.
    pub values: Taken,
    /// Names of values within bodies and functions.
    pub nested: HashSet<String>,
    /// Whether one of two branches is chosen as the model runs.
    pub chooses: bool,
    /// Names of nodes.
    pub named: Taken,
    /// What was computed of stored numbers alone, where these are few.
    pub computed: BTreeMap<String, Tensor>,
    /// Nodes that were added for bodies so far.
    pub inlined: usize,
    /// How deep the present body lies in others.
    pub depth: usize,
    /// How often what was read so far was run.
    pub runs: usize,
    /// Nodes that can't run.
    pub unsupported: Vec<Unsupported>,
    /// What is not as the file has it, in words.
    pub notes: Vec<String>,
}
