//! A model as it is put together from a file.

use std::collections::BTreeMap;
use std::path::Path;

use sinter_model::Model;

/// What was read so far.
pub(crate) struct Reader<'a> {
    pub opset: i64,
    pub folder: Option<&'a Path>,
    pub model: Model,
    /// The real value of each operand of integers: by its name, scale, zero point and axis.
    pub dequantized: BTreeMap<(String, String, String, i64), String>,
}
