//! What stages remember about the model that came into them.

use sinter_train::Memory;

use super::{Kind, MEMORY, Store};
use crate::resolve::Key;

/// What a stage remembers about the model that came into it.
pub(crate) struct StageMemory<'a> {
    pub store: &'a Store,
    /// Of the model.
    pub key: &'a str,
    pub seed: u64,
    /// Nothing is recalled.
    pub fresh: bool,
}

impl StageMemory<'_> {
    fn entry(&self, what: &str) -> Key {
        Key::of(&serde_json::json!({ "model": self.key, "seed": self.seed, "remembers": what }))
    }
}

impl Memory for StageMemory<'_> {
    fn recall(&self, what: &str) -> Option<String> {
        let key = self.entry(what).name;
        let folder = self.store.folder(&key);
        let found = if self.fresh { None } else { self.store.checked(&key, |manifest| manifest.file(&folder, MEMORY)) };
        String::from_utf8(found?).ok()
    }

    fn keep(&self, what: &str, text: &str) {
        let key = self.entry(what);
        let kept = self.store.lock(&key.name, || {}).and_then(|_lock| {
            let files = [(MEMORY, text.as_bytes().to_vec())];
            // A name is for people; what is remembered can be long.
            let name: String = what.chars().take(60).collect();
            self.store.write((Kind::Memory, &key.name, &name), &key.depends, &files)
        });
        if let Err(error) = kept {
            tracing::warn!("not remembered for later runs: {error}");
        }
    }
}
