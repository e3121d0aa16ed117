//! `--set KEY=VALUE`: a change of one key for one run.

use super::error::ConfigError;
use super::layer::Layer;
use super::merge::check_whole;
use super::stages::{kind, position, unknown};
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Keys within keys.
const DEEPEST: usize = 32;

/// Puts the values of arguments such as `stages.2.prune.structured.ratio=60%` into a tree, one after the other. Lists count from one; stages go by number or name
/// (those of the file, whatever is taken away), and what kind a stage is may be left out. A key that holds a dot stands in quotes.
pub(super) fn set(tree: &mut Tree, arguments: &[String], texts: &mut Texts) -> Result<(), ConfigError> {
    for argument in arguments {
        let Some((keys, begins)) = keys(argument) else {
            let help = "write `--set KEY=VALUE`, such as `--set stages.2.prune.structured.ratio=60%`";
            return Err(ConfigError::plain(format!("`--set {argument}` gives no value"), Some(help.into())));
        };
        let value = texts.add(Layer::new("--set", argument.to_string(), begins))?;
        let refused = |message: String, help: &str, texts: &Texts| Err(texts.key_error(&value, message, Some(help.into())));
        if keys.iter().any(String::is_empty) {
            return refused("a key is empty".into(), "write keys with a `.` between them", texts);
        }
        if keys.len() > DEEPEST {
            return refused(
                format!("there are no keys {} deep", keys.len()),
                "`sinter schema` and docs/reference.md list them",
                texts,
            );
        }
        if keys[0] == "extends" {
            return refused("`extends` is read before anything is set".into(), "name another pipeline file", texts);
        }
        let known = |name: &str| tree.get("vars").is_some_and(|vars| vars.get(name).is_some());
        if let [vars, name, ..] = &keys[..]
            && vars == "vars"
            && !known(name)
        {
            return refused(format!("the file declares no variable `{name}`"), "variables stand under `vars`", texts);
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        put(tree, &keys, value, texts, true)?;
    }
    // What was taken away kept its number until here.
    if let Some(Tree { node: Node::List(stages), .. }) = tree.get_mut("stages") {
        stages.retain(|stage| !stage.is_null());
    }
    Ok(())
}

/// The keys of an argument, and where its value begins.
fn keys(argument: &str) -> Option<(Vec<String>, usize)> {
    let (mut keys, mut quoted) = (vec![String::new()], false);
    for (at, c) in argument.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '=' if !quoted => return Some((keys, at + 1)),
            '.' if !quoted => keys.push(String::new()),
            other => keys.last_mut()?.push(other),
        }
    }
    None
}

fn put(tree: &mut Tree, keys: &[&str], value: Tree, texts: &Texts, top: bool) -> Result<(), ConfigError> {
    let [key, rest @ ..] = keys else {
        *tree = value;
        return Ok(());
    };
    check_whole(tree, &value, texts)?;
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
            let mut inner = Tree { origin: value.origin.clone(), node: Node::Map(vec![]), way: None };
            put(&mut inner, rest, value, texts, false)?;
            tree.put(key, inner);
            Ok(())
        }
    }
}

fn stage(items: &mut [Tree], keys: &[&str], value: Tree, texts: &Texts) -> Result<(), ConfigError> {
    let [name, rest @ ..] = keys else { return Ok(()) };
    let by_number = name.parse::<usize>().ok().filter(|n| (1..=items.len()).contains(n)).map(|n| n - 1);
    let Some(at) = by_number.or_else(|| position(items, name)) else {
        let (message, help) = unknown(items, name);
        return Err(texts.key_error(&value, message, Some(help)));
    };
    let Some(kind) = kind(&items[at]).map(String::from) else {
        return Err(texts.key_error(&value, format!("the stage {name} was taken away"), Some("set what stays".into())));
    };
    if rest.is_empty() && value.is_null() {
        items[at] = value;
        return Ok(());
    }
    match rest.first() {
        None => put(&mut items[at], &[&kind], value, texts, false),
        Some(first) if *first == kind || *first == "name" => put(&mut items[at], rest, value, texts, false),
        Some(_) => put(&mut items[at], &[&[kind.as_str()], rest].concat(), value, texts, false),
    }
}
