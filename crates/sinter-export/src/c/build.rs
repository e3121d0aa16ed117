//! What the C source takes on a device, as a compiler and `size` say, and whether it answers its test vector.

use std::path::Path;
use std::process::Command;

use sinter_estimate::Core;

/// A compiled model: bytes that must lie in flash, and bytes of static memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSize {
    /// The compiler and the processor it compiled for.
    pub compiler: String,
    /// Code and constants.
    pub flash: u64,
    /// Static memory, without the stack.
    pub ram: u64,
}

/// Compiles the source in `folder` for a core, or without one for this machine, and measures it. `None` where that compiler is not installed:
/// another core's size says nothing. `Err` holds what a compiler said.
pub fn measure(folder: &Path, core: Option<Core>) -> Option<Result<BuildSize, String>> {
    let (compiler, size) = if core.is_some() { ("arm-none-eabi-gcc", "arm-none-eabi-size") } else { ("cc", "size") };
    if !(answers(compiler) && answers(size)) {
        return None;
    }
    let flags = core.map_or_else(Vec::new, |core| vec![format!("-mcpu={}", core.name()), "-mthumb".into()]);
    let name = core.map_or_else(|| "cc -Os, this machine".to_string(), |core| format!("{compiler} -Os, {}", core.name()));
    let scratch = tempfile::tempdir().map_err(|e| e.to_string());
    Some(scratch.and_then(|scratch| {
        let object = scratch.path().join("model.o");
        // One object of what `model_invoke` and its kin need.
        let mut command = Command::new(compiler);
        command.current_dir(folder).args(flags).args([
            "-std=c99",
            "-Os",
            "-ffunction-sections",
            "-fdata-sections",
            "-nostdlib",
            "-r",
        ]);
        command.args(["-Wl,--gc-sections", "-Wl,-e,model_invoke", "-Wl,-u,model_input", "-Wl,-u,model_output", "-o"]);
        said(command.arg(&object).args(["model.c", "sinter_kernels.c"]))?;
        let table = said(Command::new(size).arg(&object))?;
        let numbers: Vec<u64> =
            table.lines().nth(1).unwrap_or("").split_whitespace().take(3).filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [text, data, bss] => Ok(BuildSize { compiler: name, flash: text + data, ram: data + bss }),
            _ => Err(format!("`{size}` printed {table:?}")),
        }
    }))
}

/// Compiles the source with its test vector for this machine and runs it. `None` where no compiler is installed.
pub fn answers_its_test(folder: &Path) -> Option<Result<(), String>> {
    if !answers("cc") {
        return None;
    }
    let scratch = tempfile::tempdir().map_err(|e| e.to_string());
    Some(scratch.and_then(|scratch| {
        let program = scratch.path().join("test");
        let mut command = Command::new("cc");
        command.current_dir(folder).args(["-std=c99", "-O2", "-o"]).arg(&program);
        said(command.args(["model.c", "sinter_kernels.c", "test.c"]))?;
        said(&mut Command::new(&program)).map(drop)
    }))
}

fn answers(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// What a program prints; else what it complained of.
fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{} {}", text(&output.stdout), text(&output.stderr)).trim().to_string()),
    }
}
