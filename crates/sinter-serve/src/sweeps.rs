//! The sweeps of a folder, by their stores.

use std::path::{Path, PathBuf};

use sinter_sweep::{State, Store};

use crate::guard::is_within;

/// A sweep, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub name: String,
    /// Trials that are over, running, waiting, and that failed.
    pub counts: [usize; 4],
    /// When finalists were compared, in seconds; 0 before.
    pub finals: u64,
}

/// Where the store of a sweep lies.
pub(crate) fn store_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("sweeps").join(name).join("sweep.db")
}

/// All sweeps, by name. A store that can't be read now is passed over; the next look may read it.
pub(crate) fn all(folder: &Path) -> Vec<Standing> {
    let Ok(entries) = std::fs::read_dir(folder.join("sweeps")) else { return vec![] };
    let mut names: Vec<String> = entries.filter_map(Result::ok).map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let standing = |name: String| {
        let path = store_path(folder, &name);
        let store = if is_within(folder, &path) { Store::existing(&path).ok()?? } else { return None };
        let count = |state| store.count(state).ok();
        let over = count(State::Done)? + count(State::Stopped)? + count(State::Failed)?;
        let finals = std::fs::metadata(path.with_file_name("finals.json")).and_then(|m| m.modified()).ok();
        let finals = finals.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |t| t.as_secs());
        Some(Standing { name, finals, counts: [over, count(State::Running)?, count(State::Waiting)?, count(State::Failed)?] })
    };
    names.into_iter().filter_map(standing).collect()
}
