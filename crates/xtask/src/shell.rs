//! Other programs, run with their output passed through.

use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a program; an error names it and its exit code.
pub fn run(program: &str, args: &[&str], folder: &Path) -> Result<(), String> {
    run_with(program, args, folder, &[])
}

/// Whether ONNX Runtime adds bytes exactly where the machine's own way saturates: for tests, which `cargo` tells so, and for nothing that is measured.
const EXACT: &str = "SINTER_ONNX_RUNTIME_EXACT";

/// It does.
pub const EXACTLY: (&str, &str) = (EXACT, "1");

/// The same with variables set.
pub fn run_with(program: &str, args: &[&str], folder: &Path, variables: &[(&str, &str)]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env(EXACT, "0").envs(variables.iter().copied());
    let status = command.status().map_err(|e| format!("could not start {program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{program} {}` failed ({status})", args.join(" "))) }
}

/// Runs a program silently and returns what it printed, or what it said when it failed.
pub fn output(program: &str, args: &[&str], folder: &Path) -> Result<String, String> {
    let result = Command::new(program).args(args).current_dir(folder).stdin(Stdio::null()).output();
    let output = result.map_err(|e| format!("could not start {program}: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program} failed: {}", said.lines().last().unwrap_or("no message")))
    }
}

/// Whether a program can be started.
pub fn exists(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}
