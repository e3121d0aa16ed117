//! `extends`: a file that says only what differs from another.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::layer::Layer;
use super::merge::merge;
use super::paths::Paths;
use super::stages;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Files that stand upon one another: more is a mistake.
const DEEPEST: usize = 16;

/// What a file says, which is `tree`, together with what it extends.
pub(super) fn load(path: &Path, tree: Tree, texts: &mut Texts, paths: &Paths) -> Result<Tree, ConfigError> {
    stand(path, tree, texts, paths, &mut Vec::new())
}

fn stand(path: &Path, mut tree: Tree, texts: &mut Texts, paths: &Paths, seen: &mut Vec<PathBuf>) -> Result<Tree, ConfigError> {
    let Some(base) = tree.take("extends") else { return Ok(tree) };
    let wrong = |message: String, help: &str, texts: &Texts| texts.error(&base, message, Some(help.to_string()));
    let Some(name) = base.text() else {
        return Err(wrong("`extends` is no path".into(), "write `extends: base.yaml`, relative to this file", texts));
    };
    if name.contains("${") {
        return Err(wrong("`extends` takes no variable".into(), "write the path itself", texts));
    }
    let from = path.parent().unwrap_or(Path::new("")).join(name);
    seen.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
    if from.canonicalize().is_ok_and(|real| seen.contains(&real)) {
        let message = format!("{} extends itself, by way of {}", path.display(), from.display());
        return Err(wrong(message, "a file can't stand upon itself: take one `extends` away", texts));
    }
    if seen.len() > DEEPEST {
        return Err(wrong(format!("more than {DEEPEST} files stand upon one another"), "put some of them together", texts));
    }
    if !from.is_file() {
        return Err(wrong(format!("there is no file {}", from.display()), "`extends` is relative to this file", texts));
    }
    let below = texts.add(Layer::read(&from)?)?;
    let mut below = stand(&from, below, texts, paths, seen)?;
    let way = Path::new(name).parent().unwrap_or(Path::new(""));
    paths.seen_from(&mut below, way, from.parent().unwrap_or(Path::new("")));
    for (key, over) in [("stages", stages::put_over as Over), ("vars", variables)] {
        let (Some(place), Some(_)) = (below.get_mut(key), tree.get(key).filter(|t| !t.is_null())) else { continue };
        if let Some(above) = tree.take(key) {
            over(place, above, texts)?;
        }
    }
    merge(&mut below, tree, texts)?;
    Ok(below)
}

type Over = fn(&mut Tree, Tree, &Texts) -> Result<(), ConfigError>;

/// Variables: of one, nothing means the environment's.
fn variables(below: &mut Tree, above: Tree, _texts: &Texts) -> Result<(), ConfigError> {
    match (&mut below.node, above.node) {
        (Node::Map(entries), Node::Map(above)) => {
            for (key, tree) in above {
                entries.retain(|(k, _)| *k != key);
                entries.push((key, tree));
            }
        }
        (_, node) => *below = Tree { node, origin: above.origin, way: None },
    }
    Ok(())
}
