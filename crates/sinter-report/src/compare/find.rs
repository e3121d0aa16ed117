//! Runs that folders are or hold.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::ReportError;
use crate::record::RunRecord;

/// How deep runs are looked for in a folder: `reports/NAME/HASH`.
const DEPTH: usize = 3;

/// A run and where it lies.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// What it left to tell.
    pub record: RunRecord,
}

impl Run {
    /// Reads the run of a folder.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        Ok(Self { folder: folder.to_path_buf(), record: RunRecord::read(folder)? })
    }
}

/// Runs that folders are or hold.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// In the order of their names.
    pub runs: Vec<Run>,
    /// Why some of them could not be read.
    pub unread: Vec<String>,
}

/// The runs that these folders are or hold, in the order of their names; a run that is named twice counts once. Errors name a folder in
/// which there is none, and a run that was named and can't be read; one that was found in a folder is left out.
pub fn find_runs(folders: &[PathBuf]) -> Result<Found, ReportError> {
    let (mut places, mut seen) = (Vec::new(), BTreeSet::new());
    for folder in folders {
        let paths: Vec<PathBuf> = run_folders(folder).into_iter().filter(|path| path.join("run.json").is_file()).collect();
        if paths.is_empty() {
            // Says what is wrong with the folder itself.
            places.push((folder.clone(), true));
        }
        let fresh = paths.into_iter().filter(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
        places.extend(fresh.map(|path| (path.clone(), path == *folder)));
    }
    let read: Vec<_> = places.par_iter().map(|(folder, named)| (*named, Run::read(folder))).collect();
    let mut found = Found::default();
    for (named, run) in read {
        match run {
            Ok(run) => found.runs.push(run),
            Err(error) if named => return Err(error),
            Err(error) => found.unread.push(error.to_string()),
        }
    }
    Ok(found)
}

/// The folders of runs in a folder, sorted, whether they are done or not.
pub fn run_folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(folder, DEPTH, &mut found);
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if ["run.json", "progress.json"].iter().any(|file| folder.join(file).is_file()) {
        return found.push(folder.to_path_buf());
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let mut inner: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_dir() && !hidden(p)).collect();
    inner.sort();
    if depth > 0 {
        inner.iter().for_each(|path| collect(path, depth - 1, found));
    }
}
