//! The cache: checkpoints by key, shared by all pipelines of a folder, and what stages remember.

use std::path::PathBuf;

use sinter_model::{Model, write_whole};
use sinter_train::Memory;

use crate::checkpoint::{read_checkpoint, write_checkpoint};
use crate::key::Key;
use crate::measure::Measured;
use crate::run::RunError;

/// Checkpoints by key, shared by all pipelines of a folder; each run's own folder links to those it used.
pub(crate) struct Store {
    pub cache: PathBuf,
    /// Where the run's own links go.
    pub run: PathBuf,
    /// Nothing is taken from the cache.
    pub fresh: bool,
}

impl Store {
    fn model_path(&self, key: &str) -> PathBuf {
        self.cache.join(format!("{key}.safetensors"))
    }

    fn told_path(&self, key: &str) -> PathBuf {
        self.cache.join(format!("{key}.json"))
    }

    /// A stage's result, when the cache holds all of it in good order.
    pub fn load(&self, key: &str) -> Option<(Model, Measured)> {
        if self.fresh {
            return None;
        }
        let measured = serde_json::from_slice(&std::fs::read(self.told_path(key)).ok()?).ok()?;
        Some((self.read(key)?, measured))
    }

    pub fn read(&self, key: &str) -> Option<Model> {
        let path = self.model_path(key);
        if !path.exists() {
            return None;
        }
        match read_checkpoint(&path) {
            Ok(model) => Some(model),
            Err(error) => {
                tracing::warn!("a checkpoint can't be read, its stage is done again: {error}");
                None
            }
        }
    }

    /// The model first: what is told about it makes the entry whole.
    pub fn save(&self, key: &str, model: &Model, measured: &Measured) -> Result<(), RunError> {
        write_checkpoint(model, &self.model_path(key))?;
        write_whole(&self.told_path(key), &serde_json::to_vec(measured).unwrap_or_default())?;
        Ok(())
    }

    /// Makes the checkpoint appear in the run's folder.
    pub fn link(&self, key: &str, stage: &str) -> Result<(), RunError> {
        let (from, to) = (self.model_path(key), self.run.join(format!("{stage}.safetensors")));
        let fail = |source| RunError::Io { path: to.clone(), source };
        std::fs::create_dir_all(&self.run).map_err(fail)?;
        let _ = std::fs::remove_file(&to);
        if std::fs::hard_link(&from, &to).is_err() {
            // Another file system: a copy serves as well.
            let bytes = std::fs::read(&from).map_err(|source| RunError::Io { path: from.clone(), source })?;
            write_whole(&to, &bytes)?;
        }
        Ok(())
    }
}

/// What a stage remembers about the model that came into it; in the cache, beside the checkpoints.
pub(crate) struct StageMemory<'a> {
    pub store: &'a Store,
    /// Of the model.
    pub key: &'a str,
    pub seed: u64,
}

impl StageMemory<'_> {
    fn path(&self, what: &str) -> PathBuf {
        let mut key = Key::new();
        key.text("model", self.key);
        key.config("seed", &self.seed);
        key.text("what", what);
        self.store.cache.join(format!("{}.memory.json", key.name()))
    }
}

impl Memory for StageMemory<'_> {
    fn recall(&self, what: &str) -> Option<String> {
        if self.store.fresh { None } else { std::fs::read_to_string(self.path(what)).ok() }
    }

    fn keep(&self, what: &str, text: &str) {
        if let Err(error) = write_whole(&self.path(what), text.as_bytes()) {
            tracing::warn!("not remembered for later runs: {error}");
        }
    }
}
