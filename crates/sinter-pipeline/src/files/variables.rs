//! `vars` and `${NAME}`: what a file leaves open.

use serde_yaml::Value;

use super::error::ConfigError;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Puts variables in for `${NAME}`. A variable that stands for a whole value brings its type along; `$${` is a plain `${`.
/// A variable may hold those that are declared before it. Gives back which came from the environment, with their texts.
pub(super) fn fill(tree: &mut Tree, texts: &Texts) -> Result<Vec<(String, String)>, ConfigError> {
    let declared = tree.take("vars");
    let mut values: Vec<Variable> = Vec::new();
    let mut taken = Vec::new();
    match declared.as_ref().map(|d| &d.node) {
        None | Some(Node::Leaf(Value::Null)) => {}
        Some(Node::Map(entries)) => {
            for (key, given) in entries {
                let Some(name) = key.as_str().filter(|name| is_name(name)) else {
                    let help = Some("names of variables are letters, digits and `_`".into());
                    return Err(texts.error(given, "this is no name of a variable", help));
                };
                let (mut value, environment) = of(name, given, texts)?;
                let written = environment.clone().unwrap_or_else(|| texts.written(&value));
                replace(&mut value, &values, texts)?;
                let text = value.text().map_or(written, String::from);
                taken.extend(environment.map(|text| (name.to_string(), text)));
                values.push(Variable { name: name.to_string(), value, text });
            }
        }
        Some(_) => {
            let help = "write `vars: { SPARSITY: 60%, DATA: { env: DATA, default: data } }`".to_string();
            return Err(texts.error(declared.as_ref().unwrap_or(tree), "`vars` maps names to values", Some(help)));
        }
    }
    replace(tree, &values, texts)?;
    Ok(taken)
}

struct Variable {
    name: String,
    value: Tree,
    /// As it was written, for use within a text: 1.10 is not 1.1 there.
    text: String,
}

/// The value of a variable: as written, or from the environment where it says so (`{ env: NAME }`, or nothing), with its text there.
fn of(name: &str, given: &Tree, texts: &Texts) -> Result<(Tree, Option<String>), ConfigError> {
    let (asked, default) = match (&given.node, given.get("env")) {
        (Node::Leaf(Value::Null), _) => (name, None),
        (Node::Map(_), Some(env)) => {
            let Some(asked) = env.text() else {
                return Err(texts.error(env, "`env` is the name of an environment variable", None));
            };
            (asked, given.get("default"))
        }
        _ => return Ok((given.clone(), None)),
    };
    match (std::env::var(asked), default) {
        (Ok(text), _) => {
            // A number is a number; whatever else YAML might see in it, it is a text.
            let typed = serde_yaml::from_str(&text).ok().filter(|v: &Value| v.is_number() || v.is_bool());
            let value = typed.filter(|_| !text.contains(char::is_whitespace)).unwrap_or_else(|| Value::String(text.clone()));
            Ok((Tree { origin: given.origin.clone(), node: Node::Leaf(value), way: None }, Some(text)))
        }
        (Err(_), Some(default)) => Ok((default.clone(), None)),
        (Err(_), None) => {
            let help = format!("run `{asked}=VALUE sinter …`, or `--set vars.{name}=VALUE`");
            Err(texts.error(given, format!("the variable `{name}` has no value: the environment has no `{asked}`"), Some(help)))
        }
    }
}

fn replace(tree: &mut Tree, values: &[Variable], texts: &Texts) -> Result<(), ConfigError> {
    let text = match &mut tree.node {
        Node::Map(entries) => return entries.iter_mut().try_for_each(|(_, inner)| replace(inner, values, texts)),
        Node::List(items) => return items.iter_mut().try_for_each(|inner| replace(inner, values, texts)),
        Node::Leaf(Value::String(text)) if text.contains("${") => text.clone(),
        Node::Leaf(_) => return Ok(()),
    };
    let find = |name: &str| match values.iter().find(|v| v.name == name) {
        Some(variable) => Ok(variable),
        None => {
            let names: Vec<&str> = values.iter().map(|v| v.name.as_str()).collect();
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
        let variable = find(name)?;
        if before.is_empty() && out.is_empty() && behind.is_empty() {
            tree.node = variable.value.node.clone();
            seen_from(tree);
            return Ok(());
        }
        out += before;
        match &variable.value.node {
            Node::Leaf(_) => out += &variable.text,
            _ => {
                return Err(texts.error(tree, format!("`{name}` is a list or a mapping, and stands within a text here"), None));
            }
        }
        rest = behind;
    }
    out += rest;
    tree.node = Node::Leaf(Value::String(out));
    seen_from(tree);
    Ok(())
}

/// A path that a variable began, seen from where it is read.
fn seen_from(tree: &mut Tree) {
    if let (Some(way), Some(path)) = (tree.way.take(), tree.text()) {
        tree.node = Node::Leaf(Value::String(way.join(path).display().to_string()));
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
