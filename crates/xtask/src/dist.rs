//! An archive that runs after unpacking: the program without its symbols, the libraries that it needs, pipelines, configurations and
//! licences.

use std::path::Path;

use crate::repository::root;
use crate::setup;
use crate::{cargo, shell};

/// Where set-up put what the program loads; each holds what this kind of machine needs and nothing else.
const LIBRARIES: [&str; 2] = [".libtorch/lib", ".runtime"];
const FOLDERS: [&str; 2] = ["pipelines", "configs"];
const FILES: [&str; 2] = ["README.md", "CHANGELOG.md"];

/// Builds `target/dist/sinter-VERSION-MACHINE.tar.gz`.
pub fn archive() -> Result<(), String> {
    setup::all(&setup::Options::default())?;
    let root = root();
    crate::build(&["--release"])?;
    let name = format!("sinter-{}-{}-{}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS);
    let dist = root.join("target/dist");
    let folder = dist.join(&name);
    let _gone = std::fs::remove_dir_all(&folder);
    for part in ["bin", "lib", "licences"] {
        make(&folder.join(part))?;
    }
    let program = folder.join("bin/sinter");
    copy(&root.join("target/release/sinter"), &program)?;
    shell::run("strip", &[&program.display().to_string()], &root)?;
    for from in LIBRARIES {
        copy_files(&root.join(from), &folder.join("lib"))?;
    }
    for name in FOLDERS {
        shell::run("cp", &["-R", name, &folder.display().to_string()], &root)?;
    }
    for name in FILES {
        copy(&root.join(name), &folder.join(name))?;
    }
    std::fs::write(folder.join("licences/crates.txt"), licences()?).map_err(|e| format!("licences: {e}"))?;
    for (from, to) in [(".libtorch/LICENSE", "libtorch.txt"), (".runtime/LICENSE", "onnxruntime.txt")] {
        copy(&root.join(from), &folder.join("licences").join(to))?;
    }
    let file = format!("{name}.tar.gz");
    shell::run("tar", &["-czf", &file, &name], &dist)?;
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len()) / (1 << 20);
    println!("{}: {} MiB, its program {} MiB", dist.join(&file).display(), bytes(&dist.join(&file)), bytes(&program));
    Ok(())
}

fn make(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

/// The files of a folder, not its folders. A name for a file beside it stays one: libtorch under two names is one file.
fn copy_files(from: &Path, to: &Path) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("{}: {e}", from.display());
    for entry in std::fs::read_dir(from).map_err(fail)? {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).map_err(fail)?;
        match std::fs::read_link(&path).ok().filter(|target| target.components().count() == 1) {
            Some(target) => std::os::unix::fs::symlink(target, to.join(name)).map_err(fail)?,
            None if path.is_file() && name != "LICENSE" => copy(&path, &to.join(name))?,
            None => {}
        }
    }
    Ok(())
}

/// Name, version and licence of every crate in the program.
fn licences() -> Result<String, String> {
    let args = ["tree", "--package", "sinter", "--edges", "normal", "--prefix", "none", "--format", "{p}\t{l}"];
    let text = shell::output(&cargo(), &args, &root())?;
    let mut lines: Vec<&str> = text.lines().map(|l| l.trim_end_matches(" (*)")).filter(|l| !l.contains("(/")).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}
