//! The reference page and the schemas, from the doc comments: `sinter schema` gives the files' keys, the sources the passes, `sinter
//! operators` the operators.

mod passes;
mod reference;

use std::path::Path;

use serde_json::Value;

use crate::repository::root;
use crate::{build, shell};

const PROGRAM: &str = "target/debug/sinter";
/// The files whose schemas there are.
const KINDS: [&str; 4] = ["pipeline", "data", "target", "sweep"];

/// Writes what is stale, or fails on it.
pub fn all(check: bool) -> Result<(), String> {
    let root = root();
    build(&[])?;
    let ask = |args: &[&str]| -> Result<Value, String> {
        let text = shell::output(PROGRAM, args, &root)?;
        serde_json::from_str(&text).map_err(|e| format!("sinter {}: {e}", args.join(" ")))
    };
    let mut made = Vec::new();
    let mut schemas = Vec::new();
    for kind in KINDS {
        let schema = ask(&["schema", kind])?;
        made.push((format!("docs/schema/{kind}.json"), serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"));
        schemas.push(schema);
    }
    let operators = ask(&["operators", "--json"])?;
    let passes = passes::read(&root.join("crates/sinter-quantize/src/passes"))?;
    made.push(("docs/reference.md".to_string(), reference::page(&schemas, &passes, &operators)?));
    let stale: Vec<&str> =
        made.iter().filter(|(path, text)| !is(&root.join(path), text)).map(|(path, _)| path.as_str()).collect();
    if check {
        return match stale.is_empty() {
            true => Ok(()),
            false => Err(format!("{} are not what the sources say: run `cargo xtask docs`", stale.join(", "))),
        };
    }
    for (path, text) in &made {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(|e| format!("{}: {e}", path.display()))?;
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    println!("{} files, {} of them changed", made.len(), stale.len());
    Ok(())
}

fn is(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == text)
}
