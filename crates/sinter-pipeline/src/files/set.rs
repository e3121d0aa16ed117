//! `--set KEY=VALUE`: a change of one key for one run.

use super::error::ConfigError;
use super::extends::{kind, position, unknown};
use super::layer::Layer;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Puts the value of an argument such as `stages.2.prune.structured.ratio=60%` into a tree. Lists count from one; stages go by number or name, and what kind a
/// stage is may be left out.
pub(super) fn set(tree: &mut Tree, argument: &str, texts: &mut Texts) -> Result<(), ConfigError> {
    let Some((path, _)) = argument.split_once('=') else {
        let help = "write `--set KEY=VALUE`, such as `--set stages.2.prune.structured.ratio=60%`";
        return Err(ConfigError::plain(format!("`--set {argument}` gives no value"), Some(help.into())));
    };
    let value = texts.add(Layer::new("--set", argument.to_string(), path.len() + 1))?;
    let keys: Vec<&str> = path.split('.').map(str::trim).collect();
    if keys.iter().any(|key| key.is_empty()) {
        let here = texts.key_error(&value, "a key is empty", Some("write keys with a `.` between them".into()));
        return Err(here);
    }
    put(tree, &keys, value, texts, true)
}

fn put(tree: &mut Tree, keys: &[&str], value: Tree, texts: &Texts, top: bool) -> Result<(), ConfigError> {
    let [key, rest @ ..] = keys else {
        *tree = value;
        return Ok(());
    };
    if let Node::List(items) = &mut tree.node {
        let index = match key.parse::<usize>() {
            Ok(n) if (1..=items.len()).contains(&n) => n - 1,
            Ok(n) => {
                let message = format!("there is no item {n}: the list has {}", items.len());
                return Err(texts.key_error(&value, message, Some("items are counted from 1".into())));
            }
            Err(_) => {
                let help = format!("items of a list go by number, from 1 to {}", items.len());
                return Err(texts.key_error(&value, format!("`{key}` is no number"), Some(help)));
            }
        };
        return put(&mut items[index], rest, value, texts, false);
    }
    if rest.is_empty() && value.is_null() {
        tree.take(key);
        return Ok(());
    }
    match tree.get_mut(key) {
        Some(Tree { node: Node::List(items), .. }) if top && *key == "stages" && !rest.is_empty() => {
            stage(items, rest, value, texts)
        }
        Some(inner) => put(inner, rest, value, texts, false),
        None => {
            // What the file leaves at its default: written down from here on.
            let origin = value.origin.clone();
            let mut inner = Tree { origin, node: Node::Map(vec![]) };
            put(&mut inner, rest, value, texts, false)?;
            tree.put(key, inner);
            Ok(())
        }
    }
}

fn stage(items: &mut Vec<Tree>, keys: &[&str], value: Tree, texts: &Texts) -> Result<(), ConfigError> {
    let [name, rest @ ..] = keys else { return Ok(()) };
    let by_number = name.parse::<usize>().ok().filter(|n| (1..=items.len()).contains(n)).map(|n| n - 1);
    let Some(at) = by_number.or_else(|| position(items, name)) else {
        let (message, help) = unknown(items, name);
        return Err(texts.key_error(&value, message, Some(help)));
    };
    if rest.is_empty() && value.is_null() {
        items.remove(at);
        return Ok(());
    }
    let kind = kind(&items[at]).unwrap_or_default().to_string();
    match rest.first() {
        None => put(&mut items[at], &[&kind], value, texts, false),
        Some(first) if *first == kind || *first == "name" => put(&mut items[at], rest, value, texts, false),
        Some(_) => put(&mut items[at], &[&[kind.as_str()], rest].concat(), value, texts, false),
    }
}
