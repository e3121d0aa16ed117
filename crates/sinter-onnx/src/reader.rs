//! A model as it is put together from a file.

use std::path::Path;

use sinter_model::Model;

/// What was read so far.
pub(crate) struct Reader<'a> {
    pub opset: i64,
    pub folder: Option<&'a Path>,
    pub model: Model,
}
