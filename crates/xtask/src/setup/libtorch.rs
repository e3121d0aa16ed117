//! libtorch for tch 0.26: PyTorch 2.13.0, from its wheel.

use std::path::{Path, PathBuf};

use super::platform::Platform;
use super::{appear, beside, wheel};
use crate::repository::root;
use crate::shell;

const TORCH: &str = "torch==2.13.0";
/// Makes `.libtorch/`: from an exported LIBTORCH (a link), with CUDA (the whole wheel and what it depends on), or for the CPU.
pub fn set_up(cuda: bool) -> Result<(), String> {
    let place = root().join(".libtorch");
    if let Some(given) = given()? {
        return link(&given, &place);
    }
    let has = |file: &str| place.join("lib").join(file).exists();
    let platform = Platform::here()?;
    if has(&platform.library("torch")) && has(&platform.library("c10")) && (!cuda || has("libtorch_cuda.so")) {
        return Ok(());
    }
    if place.is_symlink() {
        std::fs::remove_file(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    }
    if cuda { with_cuda(&place) } else { for_cpu(&place, platform) }
}

/// An exported LIBTORCH that is not our own place.
fn given() -> Result<Option<PathBuf>, String> {
    let Some(value) = std::env::var_os("LIBTORCH").map(PathBuf::from) else { return Ok(None) };
    let own = root().join(".libtorch");
    if value == own || value == Path::new(".libtorch") {
        return Ok(None);
    }
    let found = value.canonicalize().map_err(|e| format!("LIBTORCH={}: {e}", value.display()))?;
    if own.canonicalize().is_ok_and(|o| o == found) {
        return Ok(None);
    }
    if !found.join("lib").is_dir() || !found.join("include").is_dir() {
        return Err(format!("LIBTORCH={} holds no lib/ and include/: it should be the unpacked libtorch 2.13", found.display()));
    }
    Ok(Some(found))
}

fn link(given: &Path, place: &Path) -> Result<(), String> {
    if place.is_symlink() {
        std::fs::remove_file(place).map_err(|e| format!("{}: {e}", place.display()))?;
    } else if place.exists() {
        return Err(format!(
            "LIBTORCH names {}, but {} is there already: delete it, or unset LIBTORCH",
            given.display(),
            place.display()
        ));
    }
    std::os::unix::fs::symlink(given, place).map_err(|e| format!("{}: {e}", place.display()))
}

fn for_cpu(place: &Path, platform: Platform) -> Result<(), String> {
    let made = beside(place);
    let torch = wheel::fetch(TORCH)?;
    wheel::extract(&torch, &made, &|name| {
        if name.ends_with(".dist-info/licenses/LICENSE") {
            return Some(PathBuf::from("LICENSE"));
        }
        let inner = name.strip_prefix("torch/")?;
        let wanted = inner.starts_with("include/") || inner.strip_prefix("lib/").is_some_and(|file| platform.needs(file));
        wanted.then(|| PathBuf::from(inner))
    })?;
    let mut used = vec![torch];
    for (requirement, library) in platform.support() {
        let support = wheel::fetch(requirement)?;
        wheel::extract(&support, &made, &|name| name.ends_with(&format!("/{library}")).then(|| Path::new("lib").join(library)))?;
        used.push(support);
    }
    for (name, to) in platform.links() {
        let path = made.join("lib").join(name);
        std::os::unix::fs::symlink(to, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    appear(&made, place)?;
    used.iter().for_each(|w| wheel::forget(w));
    Ok(())
}

/// Installs the wheel with all that it depends on into a folder, and gathers the libraries of all of them in one place.
fn with_cuda(place: &Path) -> Result<(), String> {
    let made = beside(place);
    let packages = root().join(".cache/torch-cuda");
    let target = packages.to_string_lossy().into_owned();
    println!("fetching {TORCH} with CUDA, several gigabytes");
    shell::run("python3", &["-m", "pip", "install", "--target", &target, "--upgrade", TORCH], &root())?;
    let fail = |e: std::io::Error| format!("{}: {e}", made.display());
    std::fs::create_dir_all(made.join("lib")).map_err(fail)?;
    std::os::unix::fs::symlink(packages.join("torch/include"), made.join("include")).map_err(fail)?;
    let mut folders = vec![packages.join("torch/lib")];
    for part in std::fs::read_dir(packages.join("nvidia")).into_iter().flatten().flatten() {
        folders.push(part.path().join("lib"));
    }
    for file in folders.iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let to = made.join("lib").join(file.file_name());
        if file.file_name().to_string_lossy().contains(".so") && !to.exists() {
            std::os::unix::fs::symlink(file.path(), to).map_err(fail)?;
        }
    }
    let gomp = made.join("lib/libgomp.so");
    if !gomp.exists() {
        std::os::unix::fs::symlink("libgomp.so.1", gomp).map_err(fail)?;
    }
    appear(&made, place)
}
