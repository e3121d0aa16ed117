//! Files appear whole or not at all: written beside their place, synced, then renamed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How a file ends that is not whole yet.
const PART: &str = ".part";

/// Who writes: machine and process, `host-1234`.
pub fn writer() -> String {
    writer_of(std::process::id())
}

/// This machine's name, as it stands in what [`writer`] gives.
pub fn machine() -> String {
    host()
}

/// The same of another process of this machine.
pub fn writer_of(process: u32) -> String {
    format!("{}-{process}", host())
}

/// Whether a writer is a process of this machine that is gone.
pub fn is_gone(writer: &str) -> bool {
    let Some((machine, process)) = writer.rsplit_once('-') else { return false };
    let process = process.parse().ok().and_then(rustix::process::Pid::from_raw);
    machine == host() && process.is_some_and(|p| rustix::process::test_kill_process(p) == Err(rustix::io::Errno::SRCH))
}

/// The machine's name, without what names of files should not hold.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(|c| c.is_ascii_alphanumeric()).collect()
}

/// Removes what processes of this machine that are gone left half written in a folder and the folders in it; returns how many. Other machines may
/// share the folder: their parts stay.
pub fn sweep(folder: &Path) -> usize {
    let mut swept = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => swept += sweep(&path),
            Ok(kind) if kind.is_file() && is_orphan(&name) => swept += usize::from(std::fs::remove_file(&path).is_ok()),
            _ => {}
        }
    }
    swept
}

/// Whether a file is half written, by a process of this machine that is gone.
fn is_orphan(name: &str) -> bool {
    let writer = name.strip_prefix('.').and_then(|n| n.strip_suffix(PART)).and_then(|n| n.rsplit_once('.'));
    writer.is_some_and(|(_, writer)| is_gone(writer))
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write {path}: {source}")]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What went wrong.
    pub source: io::Error,
}

/// Writes a file so that `path` holds either what it held before or all of `bytes`, whatever happens in between.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// The same for content that `fill` writes to the file.
pub fn write_whole_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), WriteError> {
    let fail = |source| WriteError { path: path.to_path_buf(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(fail)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}{PART}", writer()));
    let written = (|| {
        let mut file = File::create(&beside)?;
        fill(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one that is returned.
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_swept() {
        let folder = std::env::temp_dir().join(format!("sinter-sweep-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        let dead = gone.id();
        gone.wait().unwrap();
        let put = |name: String| std::fs::write(folder.join(name), b"half").unwrap();
        put(format!(".a.json.{}-{dead}.part", host()));
        put(format!("deep/.b.{}-{dead}.part", host()));
        let (mine, theirs) = (format!(".c.{}.part", writer()), format!(".d.elsewhere{}-{dead}.part", host()));
        put(mine.clone());
        put(theirs.clone());
        put("e.part".into());
        assert_eq!(sweep(&folder), 2);
        let mut left: Vec<String> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut wanted = vec![mine, theirs, "deep".into(), "e.part".into()];
        wanted.sort();
        assert_eq!(left, wanted);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
