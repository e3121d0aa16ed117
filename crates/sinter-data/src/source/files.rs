//! Samples that are files: one folder a class, in a directory or in a tar.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sinter_model::{Bytes, memory_limit};

use crate::error::DataError;

/// One sample's bytes: a file, or a stretch of a tar.
pub(super) enum Place {
    File(PathBuf),
    Stretch { archive: Arc<(PathBuf, File)>, offset: u64, len: u64, name: String },
}

impl Place {
    pub(super) fn bytes(&self) -> Result<Vec<u8>, DataError> {
        self.start(u64::MAX)
    }

    /// The first `most` bytes.
    pub(super) fn start(&self, most: u64) -> Result<Vec<u8>, DataError> {
        let too_long = |len: u64| {
            let limit = memory_limit();
            let reason = format!("{} are more than {limit}: raise that with --memory where it is meant", Bytes(len));
            if len.min(most) > limit.0 { Err(DataError::format(&self.path(), reason)) } else { Ok(len.min(most)) }
        };
        match self {
            Self::File(path) => {
                let file = File::open(path).map_err(DataError::read(path))?;
                let len = too_long(file.metadata().map_err(DataError::read(path))?.len())?;
                let mut bytes = Vec::with_capacity(len as usize);
                file.take(len).read_to_end(&mut bytes).map_err(DataError::read(path))?;
                Ok(bytes)
            }
            Self::Stretch { archive, offset, len, .. } => {
                let whole = archive.1.metadata().map_err(DataError::read(&archive.0))?.len();
                if offset.checked_add(*len).is_none_or(|end| end > whole) {
                    return Err(DataError::format(&self.path(), "the archive is cut off before its end"));
                }
                let mut bytes = vec![0; too_long(*len)? as usize];
                archive.1.read_exact_at(&mut bytes, *offset).map_err(DataError::read(&archive.0))?;
                Ok(bytes)
            }
        }
    }

    /// For messages.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Stretch { archive, name, .. } => archive.0.join(name),
        }
    }
}

/// Labelled files, sorted by name.
pub(super) type Labelled = Vec<(Place, i64)>;

/// The files of a source: training (or all) and, where there is a `test` folder, test; and the names of the classes.
pub(super) struct Listing {
    pub train: Labelled,
    pub test: Option<Labelled>,
    pub classes: Vec<String>,
}

/// Lists the files with one of the extensions.
pub(super) fn list(name: &str, path: &Path, extensions: &[&str]) -> Result<Listing, DataError> {
    let mut found: Vec<(Vec<String>, Place)> = Vec::new();
    if path.is_dir() {
        walk(path, &mut Vec::new(), &mut found)?;
    } else {
        tar_entries(path, &mut found)?;
    }
    let wanted = |parts: &[String]| {
        let file = parts.last().map_or("", String::as_str);
        let extension = file.rsplit_once('.').map_or("", |(_, e)| e).to_ascii_lowercase();
        !file.starts_with('.') && extensions.contains(&extension.as_str())
    };
    found.retain(|(parts, _)| wanted(parts));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let depth = |parts: &[String]| parts.len();
    let split = found.iter().any(|(p, _)| depth(p) >= 3 && p[depth(p) - 3] == "train");
    let class = |parts: &[String]| if depth(parts) >= 2 { parts[depth(parts) - 2].clone() } else { String::new() };
    let classes: Vec<String> = found.iter().map(|(p, _)| class(p)).collect::<BTreeSet<_>>().into_iter().collect();
    let mut listing = Listing { train: vec![], test: split.then(Vec::new), classes: classes.clone() };
    for (parts, place) in found {
        let label = classes.iter().position(|c| *c == class(&parts)).unwrap_or(0) as i64;
        let part = if depth(&parts) >= 3 { parts[depth(&parts) - 3].as_str() } else { "" };
        match (&mut listing.test, part) {
            (Some(test), "test") => test.push((place, label)),
            (Some(_), "train") | (None, _) => listing.train.push((place, label)),
            _ => {}
        }
    }
    if listing.train.is_empty() {
        let reason = format!("{} holds no {} in folders of classes", path.display(), extensions.join(", "));
        return Err(DataError::Empty { name: name.to_string(), reason });
    }
    Ok(listing)
}

/// Folders within one another.
const DEEPEST: usize = 32;

fn walk(folder: &Path, parts: &mut Vec<String>, found: &mut Vec<(Vec<String>, Place)>) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        parts.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        if path.is_dir() {
            // Deeper than any data set; a link that leads back up would never end.
            if parts.len() > DEEPEST {
                let reason = format!("more than {DEEPEST} folders within one another: does a link lead back up?");
                return Err(DataError::format(&path, reason));
            }
            walk(&path, parts, found)?;
        } else {
            found.push((parts.clone(), Place::File(path)));
        }
        parts.pop();
    }
    Ok(())
}

fn tar_entries(path: &Path, found: &mut Vec<(Vec<String>, Place)>) -> Result<(), DataError> {
    let open = || File::open(path).map_err(DataError::read(path));
    let archive = Arc::new((path.to_path_buf(), open()?));
    let mut reader = tar::Archive::new(open()?);
    for entry in reader.entries_with_seek().map_err(|e| DataError::format(path, e))? {
        let entry = entry.map_err(|e| DataError::format(path, format!("the archive is damaged: {e}")))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(|e| DataError::format(path, e))?.to_string_lossy().into_owned();
        let parts = name.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_string).collect();
        let place = Place::Stretch { archive: archive.clone(), offset: entry.raw_file_position(), len: entry.size(), name };
        found.push((parts, place));
    }
    Ok(())
}
