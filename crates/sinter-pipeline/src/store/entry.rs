//! One entry of the cache: a folder that says what it depends on, and whose every byte is checked.
//!
//! ```text
//! KEY/manifest.json    format version, kind, key, stage, what it depends on, and length and blake3 of each file
//! KEY/manifest.blake3  blake3 of manifest.json
//! KEY/…                the files
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sinter_model::write_whole;

use super::StoreError;

/// Of the layout of an entry.
const FORMAT: u32 = 1;
/// No entry has a manifest longer than this.
const LONGEST_MANIFEST: u64 = 64 << 20;

/// What an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A model after a stage, and what was measured of it.
    Stage,
    /// What a stage remembers of the model that came into it.
    Memory,
    /// A stage that is under way, or that was stopped.
    Work,
}

/// What an entry says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub kind: Kind,
    pub key: String,
    /// The stage or what is remembered.
    pub name: String,
    /// Version of Sinter.
    sinter: String,
    /// All that the content depends on.
    pub depends: serde_json::Value,
    files: BTreeMap<String, FileSum>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FileSum {
    bytes: u64,
    blake3: String,
}

fn sum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

impl Manifest {
    /// Writes an entry's folder, which must be empty.
    pub fn write(
        folder: &Path,
        (kind, key, name): (Kind, &str, &str),
        depends: &serde_json::Value,
        files: &[(&str, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let mut sums = BTreeMap::new();
        for (file, bytes) in files {
            write_whole(&folder.join(file), bytes)?;
            sums.insert(file.to_string(), FileSum { bytes: bytes.len() as u64, blake3: sum(bytes) });
        }
        let manifest = Self {
            format: FORMAT,
            kind,
            key: key.to_string(),
            name: name.to_string(),
            sinter: env!("CARGO_PKG_VERSION").to_string(),
            depends: depends.clone(),
            files: sums,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| StoreError::io(folder)(e.into()))?;
        write_whole(&folder.join("manifest.json"), &text)?;
        write_whole(&folder.join("manifest.blake3"), sum(&text).as_bytes())?;
        Ok(())
    }

    /// Reads what an entry says of itself. Errors say what is wrong with it.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("manifest.json");
        let long = std::fs::metadata(&path).map_err(|e| format!("manifest.json: {e}"))?.len();
        if long > LONGEST_MANIFEST {
            return Err(format!("manifest.json has {long} bytes"));
        }
        let text = std::fs::read(&path).map_err(|e| format!("manifest.json: {e}"))?;
        let seal = std::fs::read(folder.join("manifest.blake3")).map_err(|e| format!("manifest.blake3: {e}"))?;
        if seal != sum(&text).as_bytes() {
            return Err("manifest.json is not what was written".to_string());
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(|e| format!("manifest.json: {e}"))?;
        if manifest.format != FORMAT {
            return Err(format!("its format version is {}, this Sinter reads {FORMAT}", manifest.format));
        }
        if folder.file_name().is_none_or(|name| name.to_string_lossy() != manifest.key) {
            return Err(format!("it is the entry {}, under another name", manifest.key));
        }
        Ok(manifest)
    }

    /// Reads one of the entry's files and checks every byte of it.
    pub fn file(&self, folder: &Path, name: &str) -> Result<Vec<u8>, String> {
        let known = self.files.get(name).ok_or_else(|| format!("it has no {name}"))?;
        let bytes = std::fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"))?;
        if bytes.len() as u64 != known.bytes {
            return Err(format!("{name} has {} bytes, {} were written", bytes.len(), known.bytes));
        }
        if sum(&bytes) != known.blake3 {
            return Err(format!("{name} is not what was written"));
        }
        Ok(bytes)
    }

    /// Checks every byte of every file.
    pub fn verify(&self, folder: &Path) -> Result<(), String> {
        self.files.keys().try_for_each(|name| self.file(folder, name).map(drop))
    }
}
