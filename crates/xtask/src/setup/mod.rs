//! The set-up: everything that is missing, nothing twice. Each part is made beside its place and renamed, so an interrupted set-up goes
//! on where it was.

mod data;
pub mod debian;
mod libtorch;
mod platform;
pub mod wheel;

use std::path::{Path, PathBuf};

use crate::repository::root;
use crate::shell;

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// libtorch with CUDA.
    pub cuda: bool,
    /// A folder that holds the Fashion-MNIST files.
    pub data: Option<PathBuf>,
    /// Also a Python with LiteRT, TensorFlow Lite Micro and Vela.
    pub runtimes: bool,
    /// Also Chromium, in which tests look at the pages.
    pub browser: bool,
    /// Also GCC for Cortex-M and QEMU's boards.
    pub boards: bool,
}

/// Sets up all that is missing.
pub fn all(options: &Options) -> Result<(), String> {
    libtorch::set_up(options.cuda)?;
    onnx_runtime()?;
    data::fashion_mnist(options.data.as_deref())?;
    onnx_tests()?;
    if options.browser {
        browser()?;
    }
    if options.boards {
        boards()?;
    }
    if options.runtimes { runtimes().map(drop) } else { Ok(()) }
}

/// Debian's Chromium, installed where it is missing.
fn browser() -> Result<(), String> {
    if ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| shell::exists(name)) {
        return Ok(());
    }
    packages(&["chromium"]).map_err(|e| format!("{e}\nChromium is not to be had: install it, or name it in CHROMIUM"))
}

/// GCC for Cortex-M with its C library, and QEMU's boards, installed where they are missing.
fn boards() -> Result<(), String> {
    if ["arm-none-eabi-gcc", "qemu-system-arm"].iter().all(|name| shell::exists(name)) {
        return Ok(());
    }
    packages(&["gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"])
}

/// Installs packages of Debian, as root.
pub fn packages(names: &[&str]) -> Result<(), String> {
    let args = [&["install", "--yes", "--no-install-recommends"], names].concat();
    let install = || shell::output("apt-get", &args, &root());
    println!("installing Debian's {}", names.join(", "));
    if install().is_err() {
        // The list of packages may be missing or old.
        let _ = shell::output("apt-get", &["update"], &root());
        install()?;
    }
    Ok(())
}

/// The Python that has the runtimes of devices.
pub fn runtimes() -> Result<String, String> {
    crate::python::environment(".runtime/python", "tests/runtimes/requirements.txt")
}

/// The version of ONNX Runtime.
const ONNX_RUNTIME: &str = "1.32.0";

/// Moves a part of what was there into what takes its place.
fn keep(place: &Path, made: &Path, part: &str) -> Result<(), String> {
    let from = place.join(part);
    if !from.exists() {
        return Ok(());
    }
    std::fs::rename(&from, made.join(part)).map_err(|e| format!("{}: {e}", from.display()))
}

/// The library that measures exported files.
fn onnx_runtime() -> Result<(), String> {
    let place = root().join(".runtime");
    let library = platform::Platform::here()?.library("onnxruntime");
    if place.join(&library).is_file() && place.join("VERSION").is_file() {
        return Ok(());
    }
    let wheel = wheel::fetch(&format!("onnxruntime=={ONNX_RUNTIME}"))?;
    let made = beside(&place);
    wheel::extract(&wheel, &made, &|name| {
        let is_library = name.strip_prefix("onnxruntime/capi/libonnxruntime.").is_some();
        let to =
            if is_library { library.as_str() } else { name.strip_prefix("onnxruntime/").filter(|file| *file == "LICENSE")? };
        Some(PathBuf::from(to))
    })?;
    std::fs::write(made.join("VERSION"), ONNX_RUNTIME).map_err(|e| format!("{}: {e}", made.display()))?;
    // What else lies there stays.
    keep(&place, &made, "python")?;
    appear(&made, &place)?;
    wheel::forget(&wheel);
    Ok(())
}

/// The ONNX project's own operator tests; later wheels ship none.
fn onnx_tests() -> Result<(), String> {
    let place = root().join(".cache/onnx-tests");
    if place.is_dir() {
        return Ok(());
    }
    let wheel = wheel::fetch("onnx==1.16.2")?;
    let made = beside(&place);
    wheel::extract(&wheel, &made, &|name| name.strip_prefix("onnx/backend/test/data/").map(PathBuf::from))?;
    appear(&made, &place)?;
    wheel::forget(&wheel);
    Ok(())
}

/// A fresh place beside `place` to make it in.
fn beside(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let made = place.with_file_name(format!(".{}.part", name.trim_start_matches('.')));
    let _ = std::fs::remove_dir_all(&made);
    made
}

/// What was made takes its place.
fn appear(made: &Path, place: &Path) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(place);
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::rename(made, place).map_err(|e| format!("could not move {} to {}: {e}", made.display(), place.display()))
}
