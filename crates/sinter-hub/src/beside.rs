//! What lies beside the weights of a folder and goes where they go: tokenizer, chat template, generation settings, licence.

use std::path::Path;

use sinter_model::write_whole;

use crate::error::HubError;

/// Files that readers look for, where a folder has them.
const FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
    "NOTICE",
];

/// Copies them, and every file whose name begins with LICENSE.
pub(crate) fn copy(source: &Path, out: &Path) -> Result<(), HubError> {
    for entry in std::fs::read_dir(source).map_err(HubError::read(source))? {
        let entry = entry.map_err(HubError::read(source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let wanted = FILES.contains(&name.as_str()) || name.starts_with("LICENSE");
        if wanted && entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).map_err(HubError::read(&entry.path()))?;
            write_whole(&out.join(name), &bytes)?;
        }
    }
    Ok(())
}
