//! The cache: results of stages by key, shared by all pipelines of a folder, and what stages remember.
//!
//! An entry is written beside its place and renamed, under a lock of its own, so runs side by side never see half of one nor share a
//! scratch file. What is read is checked byte by byte; an entry that is damaged is named, set aside, and made again.

mod entry;
mod memory;
mod model;
mod upkeep;
mod work;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sinter_model::{Model, WriteError};

pub use entry::Kind;
pub(crate) use memory::StageMemory;
pub use model::CheckpointError;
pub use upkeep::{Entry, Finding, Prune};
pub(crate) use work::StageWork;

use crate::measure::Measured;
use crate::resolve::Key;
use entry::Manifest;

const MODEL: &str = "model.safetensors";
const MEASURED: &str = "measured.json";
const MEMORY: &str = "memory.json";
/// Where damaged entries go.
const DAMAGED: &str = "damaged";
const LOCKS: &str = "locks";

/// Why the cache did not take or give something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk did not do what was asked.
    #[error("cache: {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cache: {0}")]
    Write(#[from] WriteError),
    /// A model has no checkpoint.
    #[error("cache: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Something is gone that was there a moment ago.
    #[error("cache: the entry {0} went away while the run needed it; run again")]
    Gone(String),
}

impl StoreError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

/// Results by key.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// While it lives, nobody else writes this entry.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Store {
    /// The cache of a folder of runs, which need not be there yet.
    pub fn of_runs(out: &Path) -> Self {
        Self { root: out.join(".cache") }
    }

    /// Removes what killed runs left half written.
    pub(crate) fn sweep(&self) {
        sinter_model::sweep(&self.root);
    }

    fn folder(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Waits until nobody else writes this entry; says so where it has to wait. What a killed run left half written is removed.
    pub(crate) fn lock(&self, key: &str, waits: impl FnOnce()) -> Result<Lock, StoreError> {
        let (path, file) = self.lock_file(key)?;
        let fail = StoreError::io(&path);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waits();
                file.lock().map_err(&fail)?;
            }
            Err(TryLockError::Error(e)) => return Err(fail(e)),
        }
        Ok(self.locked(key, file))
    }

    /// The lock of an entry that nobody writes; `None` while somebody does.
    fn try_lock(&self, key: &str) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.lock_file(key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(self.locked(key, file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(StoreError::io(&path)(e)),
        }
    }

    fn lock_file(&self, key: &str) -> Result<(PathBuf, File), StoreError> {
        let locks = self.root.join(LOCKS);
        std::fs::create_dir_all(&locks).map_err(StoreError::io(&locks))?;
        let path = locks.join(key);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(StoreError::io(&path))?;
        Ok((path, file))
    }

    fn locked(&self, key: &str, file: File) -> Lock {
        for scratch in self.scratch(key) {
            let _gone = std::fs::remove_dir_all(scratch);
        }
        Lock { _file: file }
    }

    /// Half-written folders of an entry.
    fn scratch(&self, key: &str) -> Vec<PathBuf> {
        let begins = format!(".{key}.");
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&begins)).map(|e| e.path()).collect()
    }

    /// A stage's measurements, when the entry is there in good order, its model included.
    pub(crate) fn measured(&self, key: &str) -> Option<Measured> {
        let folder = self.folder(key);
        self.checked(key, |manifest| {
            manifest.file(&folder, MODEL)?;
            serde_json::from_slice(&manifest.file(&folder, MEASURED)?).map_err(|e| format!("{MEASURED}: {e}"))
        })
    }

    /// A stage's model.
    pub(crate) fn model(&self, key: &str) -> Option<Model> {
        let folder = self.folder(key);
        self.checked(key, |manifest| model::decode(&manifest.file(&folder, MODEL)?).map_err(|e| e.to_string()))
    }

    /// Reads from an entry; one that is damaged is set aside.
    fn checked<T>(&self, key: &str, read: impl FnOnce(&Manifest) -> Result<T, String>) -> Option<T> {
        let folder = self.folder(key);
        if !folder.exists() {
            return None;
        }
        match Manifest::read(&folder).and_then(|manifest| read(&manifest)) {
            Ok(found) => {
                upkeep::touch(&folder);
                Some(found)
            }
            // Removed or replaced since we looked: there is nothing to set aside.
            Err(_) if !folder.join("manifest.json").exists() && !folder.exists() => None,
            Err(reason) => {
                let place = self.set_aside(key);
                tracing::warn!("the cache entry {key} is damaged ({reason}); it lies in {place} now, and is made again");
                None
            }
        }
    }

    /// Moves an entry out of the way; says where it lies.
    fn set_aside(&self, key: &str) -> String {
        let place = self.root.join(DAMAGED);
        let free = (0..u32::MAX).map(|n| place.join(format!("{key}-{n}"))).find(|p| !p.exists());
        let moved = std::fs::create_dir_all(&place).and_then(|()| match &free {
            Some(free) => std::fs::rename(self.folder(key), free),
            None => Ok(()),
        });
        match (moved, free) {
            (Ok(()), Some(free)) => free.display().to_string(),
            _ => self.folder(key).display().to_string(),
        }
    }

    /// Keeps a stage's result. The caller holds the entry's lock.
    pub(crate) fn save(&self, key: &Key, stage: &str, model: &Model, measured: &Measured) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(measured).map_err(|e| StoreError::io(&self.root)(e.into()))?;
        self.write((Kind::Stage, &key.name, stage), &key.depends, &[(MODEL, model::encode(model)?), (MEASURED, bytes)])
    }

    fn write(
        &self,
        (kind, key, name): (Kind, &str, &str),
        depends: &serde_json::Value,
        files: &[(&str, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let (place, process) = (self.folder(key), std::process::id());
        let (new, old) = (self.root.join(format!(".{key}.{process}.new")), self.root.join(format!(".{key}.{process}.old")));
        std::fs::create_dir_all(&new).map_err(StoreError::io(&new))?;
        let written = Manifest::write(&new, (kind, key, name), depends, files).and_then(|()| {
            if place.exists() {
                std::fs::rename(&place, &old).map_err(StoreError::io(&place))?;
            }
            std::fs::rename(&new, &place).map_err(StoreError::io(&place))?;
            File::open(&self.root).and_then(|f| f.sync_all()).map_err(StoreError::io(&self.root))
        });
        // Best effort: the error that matters is the one that is returned.
        let _gone = std::fs::remove_dir_all(if written.is_ok() { &old } else { &new });
        written
    }

    /// Makes a stage's checkpoint appear at a place outside of the cache.
    pub(crate) fn link(&self, key: &str, to: &Path) -> Result<(), StoreError> {
        let from = self.folder(key).join(MODEL);
        let folder = to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(StoreError::io(folder))?;
        match std::fs::remove_file(to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io(to)(e)),
            _ => {}
        }
        if std::fs::hard_link(&from, to).is_err() {
            // Another file system: a copy serves as well.
            let bytes = std::fs::read(&from).map_err(StoreError::io(&from))?;
            sinter_model::write_whole(to, &bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Said;
    use sinter_estimate::Footprint;
    use sinter_model::to_f32s;
    use sinter_model::zoo::ZooModel;
    use sinter_report::StageRow;
    use sinter_task::{Measurement, Metric};

    fn result(seed: u64) -> (Key, Model, Measured) {
        let model = ZooModel::Lenet300100.build(&[1, 4, 4], 4, seed).unwrap();
        let metric = Metric::share("accuracy");
        let quality = Measurement { metric, value: seed as f64 / 10.0, interval: None, samples: 7, top5: None, confusion: None };
        let footprint = Footprint { layers: vec![] };
        let measured =
            Measured { row: StageRow::default(), layers: vec![], quality, others: vec![], footprint, said: Said::default() };
        (Key::of(&seed), model, measured)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    }

    /// Damages one or two entries; says which.
    fn damage(random: &mut fastrand::Rng, folders: &[PathBuf]) -> Vec<usize> {
        let victim = random.usize(..folders.len());
        let file = random.choice(files(&folders[victim])).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        match random.u8(..4) {
            0 => {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
                std::fs::write(&file, bytes).unwrap();
            }
            1 => {
                bytes.truncate(random.usize(..bytes.len()));
                std::fs::write(&file, bytes).unwrap();
            }
            2 => {
                let (a, b) = (random.usize(..bytes.len()), random.usize(..bytes.len()));
                if bytes[a] == bytes[b] {
                    bytes[a] = !bytes[a];
                }
                bytes.swap(a, b);
                std::fs::write(&file, bytes).unwrap();
            }
            // The file or the whole entry of another result.
            _ => {
                let other = (victim + 1) % folders.len();
                let (a, b) = match random.bool() {
                    true => (file.clone(), folders[other].join(file.file_name().unwrap())),
                    false => (folders[victim].clone(), folders[other].clone()),
                };
                let aside = folders[0].with_file_name("aside");
                std::fs::rename(&a, &aside).unwrap();
                std::fs::rename(&b, &a).unwrap();
                std::fs::rename(&aside, &b).unwrap();
                return vec![victim, other];
            }
        }
        vec![victim]
    }

    /// Two hundred flipped bits, truncations and swaps: none is used, each is set aside, and all else stays good.
    #[test]
    fn nothing_damaged_is_used() {
        let place = tempfile::tempdir().unwrap();
        let store = Store { root: place.path().join("cache") };
        let results: Vec<_> = (1..4).map(result).collect();
        let folders: Vec<PathBuf> = results.iter().map(|(key, ..)| store.folder(&key.name)).collect();
        let values = |model: &Model| -> Vec<Vec<f32>> { model.weights.values().map(|w| to_f32s(w.latent()).unwrap()).collect() };
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..200 {
            for (key, model, measured) in &results {
                if !store.folder(&key.name).exists() {
                    let _lock = store.lock(&key.name, || {}).unwrap();
                    store.save(key, "1-train", model, measured).unwrap();
                }
            }
            let damaged = damage(&mut random, &folders);
            for (i, (key, model, measured)) in results.iter().enumerate() {
                match (store.measured(&key.name), damaged.contains(&i)) {
                    (Some(_), true) => panic!("round {round}: a damaged entry was used"),
                    (None, false) => panic!("round {round}: a good entry was thrown away"),
                    (None, true) => assert!(!store.folder(&key.name).exists() && store.model(&key.name).is_none()),
                    (Some(found), false) => {
                        assert_eq!(found.quality, measured.quality);
                        assert_eq!(values(&store.model(&key.name).unwrap()), values(model));
                    }
                }
            }
        }
        assert!(files(&store.root.join(DAMAGED)).len() >= 200);
    }

    #[test]
    fn what_an_older_sinter_left_goes() {
        let place = tempfile::tempdir().unwrap();
        let store = Store { root: place.path().to_path_buf() };
        let key = "0123456789abcdef01234567";
        for end in ["safetensors", "json", "memory.json"] {
            std::fs::write(place.path().join(format!("{key}.{end}")), "x").unwrap();
        }
        std::fs::write(place.path().join("notes.json"), "mine").unwrap();
        assert_eq!(store.discard_old(), 3);
        assert!(place.path().join("notes.json").exists());
    }
}
