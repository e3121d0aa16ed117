//! What can be checked of the figures: artefacts in the real runtimes, which are installed into an environment of their own, and
//! estimates against published measurements.

use std::path::Path;

use crate::repository::root;
use crate::setup;
use crate::shell;

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
    crate::build(&[])?;
    let verify = ["--python", &python, "verify", "--sinter", "target/debug/sinter", "--scratch", SCRATCH];
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    shell::run_with("target/debug/sinter-bench", &[&verify[..], &models].concat(), &root, &[("OMP_NUM_THREADS", "1")])
}

/// Compares the estimates for boards with models that they have not seen; `data` may hold MLPerf Tiny's published results.
pub fn estimates(data: Option<&Path>) -> Result<(), String> {
    setup::all(&setup::Options::default())?;
    let root = root();
    crate::build(&[])?;
    let mut args = vec!["estimates".to_string(), "--targets".into(), "configs/targets".into()];
    if let Some(folder) = data {
        let file = folder.join("mlperf_tiny_energy.csv").canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
        args.extend(["--published".into(), file.display().to_string()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    shell::run("target/debug/sinter-bench", &args, &root)
}
