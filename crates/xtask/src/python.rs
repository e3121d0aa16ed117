//! Python environments for what runs beside Sinter: made once, and anew when their list of packages changes.

use std::path::Path;

use crate::repository::root;
use crate::shell;

/// The Python of an environment in `place` that has what `requirements` lists; both relative to the repository.
pub fn environment(place: &str, requirements: &str) -> Result<String, String> {
    let (root, place) = (root(), root().join(place));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let wanted = read(&root.join(requirements));
    let python = place.join("bin/python").display().to_string();
    if read(&place.join("installed.txt")) == wanted {
        return Ok(python);
    }
    println!("installing {requirements} into {}", place.display());
    shell::run("python3", &["-m", "venv", "--clear", &place.display().to_string()], &root)
        .map_err(|e| format!("{e}; this needs Python with its venv module"))?;
    shell::run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], &root)?;
    std::fs::write(place.join("installed.txt"), wanted).map_err(|e| e.to_string())?;
    Ok(python)
}
