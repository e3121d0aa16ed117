//! One value over another.

use super::error::ConfigError;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Puts what a file says over what stood before: mappings key by key, all else as a whole. `~` takes a key away.
pub(super) fn merge(below: &mut Tree, above: Tree, texts: &Texts) -> Result<(), ConfigError> {
    if matches!(above.node, Node::Map(_)) {
        check_whole(below, &above, texts)?;
    }
    let Tree { origin, node, way } = above;
    match (&mut below.node, node) {
        (Node::Map(entries), Node::Map(above)) => {
            below.origin = origin;
            for (key, tree) in above {
                let at = entries.iter().position(|(k, _)| *k == key);
                match at {
                    Some(at) if tree.is_null() => drop(entries.remove(at)),
                    Some(at) => merge(&mut entries[at].1, tree, texts)?,
                    None if tree.is_null() => {}
                    None => entries.push((key, tree)),
                }
            }
        }
        (_, node) => *below = Tree { origin, node, way },
    }
    Ok(())
}

/// What a variable stands for is put in at the end: nothing within it can be changed before.
pub(super) fn check_whole(below: &Tree, above: &Tree, texts: &Texts) -> Result<(), ConfigError> {
    match below.text().filter(|text| text.starts_with("${")) {
        Some(variable) => {
            let help = "change the variable under `vars`, or write down the whole value".to_string();
            Err(texts.error(above, format!("`{variable}` stands here, and is one value"), Some(help)))
        }
        None => Ok(()),
    }
}
