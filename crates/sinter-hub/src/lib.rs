//! Language models: folders as Hugging Face has them, to and from a model.
//!
//! [`read`] builds the graph that config.json describes over the tensors of a folder; the architectures are rows of a table, and what they
//! differ in are its columns. The model that comes out is one like any other: stages, tables and files know nothing of where it came from.

mod beside;
pub mod compressed_tensors;
mod config;
mod decoder;
mod error;
pub mod gguf;
mod rope;
mod shards;
mod stored;

use std::path::Path;

use sinter_model::Model;

pub use error::HubError;

use config::Config;
use shards::Shards;

/// The tokenizer's file in a folder.
pub const TOKENIZER: &str = "tokenizer.json";

/// Reads a folder as a model for texts of `tokens`, `[batch, tokens]` to `[batch, tokens, vocabulary]`; and what there is to say about it. Errors name the file
/// and the tensor.
pub fn read(folder: &Path, tokens: i64) -> Result<(Model, Vec<String>), HubError> {
    let config = Config::read(&folder.join("config.json"), tokens)?;
    let shards = Shards::open(folder)?;
    let name = folder.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let (model, left) = decoder::build(&name, &config, &shards, tokens)?;
    let mut notes = Vec::new();
    if let Some(first) = left.first() {
        notes.push(format!(
            "{} tensors of the folder are no part of {} and are left out, `{first}` first",
            left.len(),
            config.family.architecture
        ));
    }
    Ok((model, notes))
}
