//! The shape of the house, read from its sources: no circles of files, no file that is too long.

mod circles;
mod modules;

use std::path::{Path, PathBuf};

use crate::repository::root;

/// No source file is longer.
const MOST_LINES: usize = 400;

/// Prints circles of files and files that are too long; errors where there are any.
pub fn check() -> Result<(), String> {
    let root = root();
    let (mut files, mut edges, mut circles, mut long) = (0, 0, Vec::new(), Vec::new());
    for package in packages(&root)? {
        for target in package.targets {
            let tree = modules::read(&target)?;
            files += tree.files.len();
            let uses = tree.uses();
            edges += uses.iter().map(|u| u.len()).sum::<usize>();
            for circle in circles::of(&uses) {
                circles.push(circle.into_iter().map(|i| shown(&root, &tree.files[i].path)).collect::<Vec<_>>());
            }
        }
        for file in package.sources {
            let lines = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?.lines().count();
            if lines > MOST_LINES {
                long.push((shown(&root, &file), lines));
            }
        }
    }
    for circle in &circles {
        println!("circle: {}", circle.join(" <-> "));
    }
    for (file, lines) in &long {
        println!("too long: {file}, {lines} lines");
    }
    println!(
        "{files} files, {edges} uses between them, {} circles, {} files above {MOST_LINES} lines",
        circles.len(),
        long.len()
    );
    match circles.is_empty() && long.is_empty() {
        true => Ok(()),
        false => Err("the house is out of shape".into()),
    }
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// A package: where its crates begin, and all its sources.
struct Package {
    targets: Vec<PathBuf>,
    sources: Vec<PathBuf>,
}

fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let mut folders = vec![root.join("tests"), root.join("bench")];
    let crates = root.join("crates");
    folders.extend(entries(&crates)?.into_iter().filter(|p| p.is_dir()));
    let mut all = Vec::new();
    for folder in folders {
        let begin = ["src/lib.rs", "src/main.rs", "fixtures/lib.rs"].map(|name| folder.join(name));
        let mut sources = Vec::new();
        gather(&folder, &mut sources)?;
        all.push(Package { targets: begin.into_iter().filter(|p| p.is_file()).collect(), sources });
    }
    Ok(all)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    all.sort();
    Ok(all)
}

fn gather(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    for path in entries(folder)? {
        if path.is_dir() {
            gather(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
