//! The sweeps of a folder, by their stores.

use std::path::{Path, PathBuf};

use sinter_sweep::{State, Store};

/// A sweep, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub name: String,
    /// Trials that are over, running, waiting, and that failed.
    pub counts: [usize; 4],
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
        let store = Store::existing(&store_path(folder, &name)).ok()??;
        let count = |state| store.count(state).ok();
        let over = count(State::Done)? + count(State::Stopped)? + count(State::Failed)?;
        Some(Standing { name, counts: [over, count(State::Running)?, count(State::Waiting)?, count(State::Failed)?] })
    };
    names.into_iter().filter_map(standing).collect()
}
