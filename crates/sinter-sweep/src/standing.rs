//! How far the sweeps of a folder are, by their stores alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::finals::Finals;
use crate::store::Store;
use crate::trial::State;

/// A sweep, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Trials that are over, however they ended.
    pub over: usize,
    /// Trials that somebody is at.
    pub running: usize,
    /// Trials that wait.
    pub waiting: usize,
    /// Of those that are over, those that failed.
    pub failed: usize,
    /// When finalists were compared last, in seconds since 1970.
    pub compared: Option<u64>,
}

impl Standing {
    /// Where the store of a sweep lies in a folder of runs.
    pub fn store_path(folder: &Path, name: &str) -> PathBuf {
        folder.join("sweeps").join(name).join("sweep.db")
    }

    /// All sweeps of a folder of runs, by name. A store that can't be read is passed over.
    pub fn all(folder: &Path) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(folder.join("sweeps")) else { return vec![] };
        let mut names: Vec<String> =
            entries.filter_map(Result::ok).map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.into_iter().filter_map(|name| Self::of(folder, name)).collect()
    }

    fn of(folder: &Path, name: String) -> Option<Self> {
        let path = Self::store_path(folder, &name);
        let store = Store::existing(&path).ok()??;
        let count = |state| store.count(state).ok();
        let failed = count(State::Failed)?;
        Some(Self {
            over: count(State::Done)? + count(State::Stopped)? + failed,
            running: count(State::Running)?,
            waiting: count(State::Waiting)?,
            failed,
            compared: path
                .parent()
                .and_then(Finals::written)
                .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
                .map(|t| t.as_secs()),
            name,
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.running > 0 { "running" } else { "sweep" };
        write!(f, "{state:<11}  sweep {}: {} trials over", self.name, self.over)?;
        for (count, word) in [(self.failed, "of them failed"), (self.running, "running"), (self.waiting, "waiting")] {
            if count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        if self.compared.is_some() { write!(f, ", finalists compared") } else { Ok(()) }
    }
}
