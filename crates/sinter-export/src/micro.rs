//! TensorFlow Lite Micro, where its Python package is installed: how large an arena a model takes.

use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("micro.py");

/// The bytes of the arena that a `.tflite` file takes on this machine. `None` without the package (`cargo xtask setup --runtimes` installs
/// it, or name a Python that has it in SINTER_PYTHON); `Err` holds what the runtime said against the file.
pub fn arena(model: &Path) -> Option<Result<usize, String>> {
    let output = Command::new(python()?).arg("-c").arg(SCRIPT).arg(model).output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    let said = text(&output.stdout);
    if said == "absent" {
        return None;
    }
    Some(said.parse().map_err(|_| text(&output.stderr).lines().last().unwrap_or("no answer").to_string()))
}

/// The Python of the runtimes of devices: SINTER_PYTHON, or `.runtime/python` in a folder above the program.
pub(crate) fn python() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SINTER_PYTHON") {
        return Some(PathBuf::from(path));
    }
    let program = std::env::current_exe().ok()?;
    program.ancestors().skip(1).map(|folder| folder.join(".runtime/python/bin/python")).find(|p| p.is_file())
}
