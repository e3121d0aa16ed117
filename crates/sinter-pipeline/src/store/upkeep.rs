//! What `sinter cache` does: list, verify, prune, clear.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::entry::{Kind, Manifest};
use super::{DAMAGED, LOCKS, Store, StoreError};

/// An entry of the cache.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its name: the hash of what it depends on.
    pub key: String,
    /// What it holds; `None` for one that can't be read.
    pub kind: Option<Kind>,
    /// The stage, or what is remembered.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Seconds since a run wrote or read it.
    pub unused_seconds: u64,
    /// All that it depends on.
    pub depends: serde_json::Value,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The entry.
    pub key: String,
    /// What is wrong with it; it was set aside.
    pub fault: Option<String>,
}

/// What goes when a cache is pruned.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prune {
    /// Entries that no run used for so long. `None`: all.
    pub older: Option<Duration>,
    /// So many of those that were used last stay in any case.
    pub keep_last: usize,
}

/// Marks an entry as used. One that can't be marked is none the worse for it.
pub(super) fn touch(folder: &Path) {
    let marked = File::options().append(true).open(folder.join("manifest.json"));
    let _best_effort = marked.and_then(|f| f.set_modified(SystemTime::now()));
}

fn unused(folder: &Path) -> Duration {
    let modified =
        std::fs::metadata(folder.join("manifest.json")).or_else(|_| std::fs::metadata(folder)).and_then(|m| m.modified());
    modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
}

fn size(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.filter_map(Result::ok).map(|e| size(&e.path())).sum(),
        Err(_) => std::fs::metadata(path).map_or(0, |m| m.len()),
    }
}

fn is_key(name: &str) -> bool {
    name.len() == 24 && name.chars().all(|c| c.is_ascii_hexdigit())
}

impl Store {
    fn folders(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        let named = entries.map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()));
        let mut all: Vec<_> = named.filter(|(name, path)| is_key(name) && path.is_dir()).collect();
        all.sort();
        all
    }

    /// All entries, those that were used last first.
    pub fn entries(&self) -> Vec<Entry> {
        let mut folders: Vec<(Duration, String, PathBuf)> =
            self.folders().into_iter().map(|(key, folder)| (unused(&folder), key, folder)).collect();
        folders.sort();
        let entry = |(unused, key, folder): (Duration, String, PathBuf)| {
            let (bytes, unused_seconds) = (size(&folder), unused.as_secs());
            match Manifest::read(&folder) {
                Ok(m) => Entry { key, kind: Some(m.kind), name: m.name, bytes, unused_seconds, depends: m.depends },
                Err(reason) => Entry { key, kind: None, name: reason, bytes, unused_seconds, depends: serde_json::Value::Null },
            }
        };
        folders.into_iter().map(entry).collect()
    }

    /// Checks every byte of every entry that no run is writing. Damaged ones are set aside: the next run makes them again.
    pub fn verify(&self) -> Result<Vec<Finding>, StoreError> {
        let mut found = Vec::new();
        for (key, folder) in self.folders() {
            let Some(_lock) = self.try_lock(&key)? else { continue };
            let fault = Manifest::read(&folder).and_then(|m| m.verify(&folder)).err();
            let fault = fault.map(|reason| format!("{reason}; set aside in {}", self.set_aside(&key)));
            found.push(Finding { key, fault });
        }
        Ok(found)
    }

    /// Removes entries, and what was set aside as damaged. Gives how many went, and their bytes. One that a run is writing stays.
    pub fn prune(&self, prune: Prune) -> Result<(usize, u64), StoreError> {
        let goes = |unused: Duration| prune.older.is_none_or(|age| unused >= age);
        let mut gone: Vec<(PathBuf, Option<String>)> = Vec::new();
        let entries = self.entries().into_iter().skip(prune.keep_last);
        let entries = entries.filter(|e| goes(Duration::from_secs(e.unused_seconds)));
        gone.extend(entries.map(|e| (self.folder(&e.key), Some(e.key))));
        let damaged = std::fs::read_dir(self.root.join(DAMAGED)).into_iter().flatten().filter_map(Result::ok).map(|e| e.path());
        gone.extend(damaged.filter(|folder| goes(unused(folder))).map(|folder| (folder, None)));
        let (mut count, mut bytes) = (0, 0);
        for (folder, key) in gone {
            let lock = key.map(|key| self.try_lock(&key)).transpose()?;
            if let Some(None) = lock {
                continue;
            }
            let size = size(&folder);
            std::fs::remove_dir_all(&folder).map_err(StoreError::io(&folder))?;
            (count, bytes) = (count + 1, bytes + size);
        }
        Ok((count, bytes))
    }

    /// Removes everything. Errors while a run is writing.
    pub fn clear(&self) -> Result<u64, StoreError> {
        let names = std::fs::read_dir(self.root.join(LOCKS)).into_iter().flatten().filter_map(Result::ok);
        let mut locks = Vec::new();
        for name in names.map(|lock| lock.file_name().to_string_lossy().into_owned()) {
            let busy = || std::io::Error::other("a run is writing to it; clear it when that is done");
            locks.push(self.try_lock(&name)?.ok_or_else(|| StoreError::io(&self.folder(&name))(busy()))?);
        }
        let bytes = size(&self.root);
        match std::fs::remove_dir_all(&self.root) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(&self.root)(e)),
            _ => Ok(bytes),
        }
    }

    /// Removes entries without checksums, as Sinter left them before they had some. Gives how many files went.
    pub(crate) fn discard_old(&self) -> usize {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        let old = entries.filter(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            let of_key = name.split('.').next().is_some_and(is_key);
            of_key && [".safetensors", ".json"].iter().any(|end| name.ends_with(end)) && e.path().is_file()
        });
        old.filter(|e| std::fs::remove_file(e.path()).is_ok()).count()
    }
}
