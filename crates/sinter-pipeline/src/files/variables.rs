//! `vars` and `${NAME}`: what a file leaves open.

use serde_yaml::Value;

use super::error::ConfigError;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Puts variables in for `${NAME}`. A variable that stands for a whole value brings its type along; `$${` is a plain `${`.
pub(super) fn fill(tree: &mut Tree, texts: &Texts) -> Result<(), ConfigError> {
    let declared = tree.take("vars");
    let mut values: Vec<(String, Tree)> = Vec::new();
    match declared.as_ref().map(|d| &d.node) {
        None | Some(Node::Leaf(Value::Null)) => {}
        Some(Node::Map(entries)) => {
            for (key, given) in entries {
                let Some(name) = key.as_str().filter(|name| is_name(name)) else {
                    let help = Some("names of variables are letters, digits and `_`".into());
                    return Err(texts.error(given, "this is no name of a variable", help));
                };
                values.push((name.to_string(), of(name, given, texts)?));
            }
        }
        Some(_) => {
            let help = "write `vars: { SPARSITY: 60%, DATA: { env: DATA, default: data } }`".to_string();
            return Err(texts.error(declared.as_ref().unwrap_or(tree), "`vars` maps names to values", Some(help)));
        }
    }
    replace(tree, &values, texts)
}

/// The value of a variable: as written, or from the environment where it says so (`{ env: NAME }`, or nothing).
fn of(name: &str, given: &Tree, texts: &Texts) -> Result<Tree, ConfigError> {
    let (asked, default) = match (&given.node, given.get("env")) {
        (Node::Leaf(Value::Null), _) => (name, None),
        (Node::Map(_), Some(env)) => {
            let Some(asked) = env.text() else {
                return Err(texts.error(env, "`env` is the name of an environment variable", None));
            };
            (asked, given.get("default"))
        }
        _ => return Ok(given.clone()),
    };
    match (std::env::var(asked), default) {
        (Ok(text), _) => {
            // As if it were written here: a number is a number.
            let value = serde_yaml::from_str(&text).ok().filter(|v: &Value| !v.is_null() && !v.is_mapping() && !v.is_sequence());
            Ok(Tree { origin: given.origin.clone(), node: Node::Leaf(value.unwrap_or(Value::String(text))) })
        }
        (Err(_), Some(default)) => Ok(default.clone()),
        (Err(_), None) => {
            let help = format!("run `{asked}=VALUE sinter …`, or `--set vars.{name}=VALUE`");
            Err(texts.error(given, format!("the variable `{name}` has no value: the environment has no `{asked}`"), Some(help)))
        }
    }
}

fn replace(tree: &mut Tree, values: &[(String, Tree)], texts: &Texts) -> Result<(), ConfigError> {
    let text = match &mut tree.node {
        Node::Map(entries) => return entries.iter_mut().try_for_each(|(_, inner)| replace(inner, values, texts)),
        Node::List(items) => return items.iter_mut().try_for_each(|inner| replace(inner, values, texts)),
        Node::Leaf(Value::String(text)) if text.contains("${") => text.clone(),
        Node::Leaf(_) => return Ok(()),
    };
    let find = |name: &str| match values.iter().find(|(n, _)| n == name) {
        Some((_, value)) => Ok(value),
        None => {
            let names: Vec<&str> = values.iter().map(|(n, _)| n.as_str()).collect();
            let help = match names.is_empty() {
                true => format!("declare it: `vars: {{ {name}: VALUE }}`; a plain `${{` is written `$${{`"),
                false => format!("declared are {}; a plain `${{` is written `$${{`", names.join(", ")),
            };
            Err(texts.error(tree, format!("there is no variable `{name}`"), Some(help)))
        }
    };
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("${") {
        let (before, behind) = (&rest[..at], &rest[at + 2..]);
        if let Some(plain) = before.strip_suffix('$') {
            out += plain;
            out += "${";
            rest = behind;
            continue;
        }
        let Some((name, behind)) = behind.split_once('}') else {
            return Err(texts.error(tree, "`${` has no `}`", Some("write `${NAME}`; a plain `${` is written `$${`".into())));
        };
        let value = find(name)?;
        if before.is_empty() && out.is_empty() && behind.is_empty() {
            tree.node = value.node.clone();
            return Ok(());
        }
        out += before;
        match &value.node {
            Node::Leaf(Value::String(text)) => out += text,
            Node::Leaf(other) => out += serde_yaml::to_string(other).unwrap_or_default().trim_end(),
            _ => {
                return Err(texts.error(tree, format!("`{name}` is a list or a mapping, and stands within a text here"), None));
            }
        }
        rest = behind;
    }
    out += rest;
    tree.node = Node::Leaf(Value::String(out));
    Ok(())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
