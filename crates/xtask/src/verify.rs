//! Artefacts in the real runtimes, which are installed into an environment of their own.

use crate::setup::{self, root};
use crate::{cargo, shell};

/// Where data, runs and arrays go.
const SCRATCH: &str = ".cache/runtimes";

/// Installs LiteRT, TensorFlow Lite Micro, ONNX Runtime and Vela, makes data, and compares the artefacts of five models with the integer
/// reference; `models` names some of them.
pub fn artifacts(models: &[String]) -> Result<(), String> {
    setup::all(&setup::Options::default())?;
    let root = root();
    let python = setup::runtimes()?;
    std::fs::create_dir_all(root.join(SCRATCH)).map_err(|e| e.to_string())?;
    shell::run(&python, &["tests/runtimes/prepare.py", ".cache/fashion-mnist", SCRATCH], &root)?;
    shell::run(&cargo(), &["build", "--package", "sinter", "--package", "sinter-bench"], &root)?;
    let verify = ["--python", &python, "verify", "--sinter", "target/debug/sinter", "--scratch", SCRATCH];
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    shell::run_with("target/debug/sinter-bench", &[&verify[..], &models].concat(), &root, &[("OMP_NUM_THREADS", "1")])
}
