//! Names of results: the hash of all that they depend on.

use std::io::Read;
use std::path::{Path, PathBuf};

/// Raised when a change of code changes what a stage computes, so that old checkpoints are not taken for new.
const EPOCH: u32 = 8;

/// A running hash.
#[derive(Clone)]
pub(crate) struct Key(blake3::Hasher);

impl Key {
    pub fn new() -> Self {
        let mut key = Self(blake3::Hasher::new());
        key.text("version", env!("CARGO_PKG_VERSION"));
        key.text("epoch", &EPOCH.to_string());
        key
    }

    /// Adds a named part.
    pub fn text(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part.as_bytes());
        }
    }

    /// Adds a configuration.
    pub fn config(&mut self, name: &str, value: &impl serde::Serialize) {
        self.text(name, &serde_json::to_string(value).unwrap_or_default());
    }

    /// Adds the bytes of a file, or of every file of a folder in the order of their names.
    pub fn file(&mut self, path: &Path) -> std::io::Result<()> {
        if path.is_dir() {
            self.text("folder", "begins");
            let mut entries = std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
            entries.sort();
            for entry in entries {
                self.text("name", &entry.file_name().unwrap_or_default().to_string_lossy());
                self.file(&entry)?;
            }
            self.text("folder", "ends");
            return Ok(());
        }
        let mut file = std::fs::File::open(path)?;
        self.text("length", &file.metadata()?.len().to_string());
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                n => self.0.update(&buffer[..n]),
            };
        }
    }

    /// Adds bytes.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.text(name, &bytes.len().to_string());
        self.0.update(bytes);
    }

    /// The name: 24 hexadecimal digits.
    pub fn name(&self) -> String {
        self.0.finalize().to_hex()[..24].to_string()
    }
}
