//! Arm's Vela, where its Python package is installed: how long a model takes on an Ethos-U and what memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use crate::micro::python;

/// What Vela says of a model. The cycles are those of its performance model, not of a chip.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// `Vela 5.2.0`.
    pub version: String,
    /// Clock cycles of one inference.
    pub cycles: u64,
    /// Bytes of fast memory.
    pub sram: u64,
    /// Bytes of memory for weights and commands.
    pub flash: u64,
    /// Operators that it leaves to the processor.
    pub on_cpu: Vec<String>,
}

/// Compiles a `.tflite` file for an accelerator (`ethos-u55-128`). `None` without Vela (`cargo xtask setup --runtimes` installs it, or name a
/// Python that has it in SINTER_PYTHON); `Err` holds what Vela said against the file.
pub fn vela(model: &Path, accelerator: &str) -> Option<Result<Compiled, String>> {
    let program = python()?.with_file_name("vela");
    let version = Command::new(&program).arg("--version").output().ok().filter(|o| o.status.success())?;
    let version = format!("Vela {}", String::from_utf8_lossy(&version.stdout).trim());
    let folder = tempfile::tempdir().ok()?;
    let mut command = Command::new(&program);
    command.arg(model).args(["--accelerator-config", accelerator, "--output-dir"]).arg(folder.path());
    Some(command.output().map_err(|e| e.to_string()).and_then(|output| read(&output, folder.path(), version)))
}

fn read(output: &Output, folder: &Path, version: String) -> Result<Compiled, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    if !output.status.success() {
        return Err(said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("no answer").trim().to_string());
    }
    let files = std::fs::read_dir(folder).map_err(|e| e.to_string())?.filter_map(Result::ok).map(|f| f.path());
    let summary = files.into_iter().find(|p| p.to_string_lossy().contains("summary")).ok_or("it left no summary")?;
    let mut reader = csv::Reader::from_path(&summary).map_err(|e| e.to_string())?;
    let row: BTreeMap<String, String> =
        reader.deserialize().next().ok_or("its summary is empty")?.map_err(|e: csv::Error| e.to_string())?;
    let number = |key: &str| row.get(key).and_then(|v| v.parse::<f64>().ok());
    let kibibytes = |keys: &[&str]| (keys.iter().filter_map(|k| number(k)).sum::<f64>() * 1024.0).round() as u64;
    Ok(Compiled {
        version,
        cycles: number("cycles_total").ok_or("its summary tells no cycles")?.round() as u64,
        sram: kibibytes(&["sram_memory_used"]),
        flash: kibibytes(&["on_chip_flash_memory_used", "off_chip_flash_memory_used"]),
        on_cpu: said.lines().filter(|l| l.contains("is placed on the CPU")).map(|l| l.trim().to_string()).collect(),
    })
}
