//! Values of YAML that know where they come from, so that what several files say together still has its places.

use std::path::PathBuf;

use serde_yaml::Value;

/// Where something was written: in which text, and at which path of that text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Origin {
    pub layer: usize,
    pub path: String,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub origin: Origin,
    pub node: Node,
    /// Of a path that a variable begins: the folder that it is relative to, seen from where it is read.
    pub way: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Map(Vec<(Value, Tree)>),
    List(Vec<Tree>),
    /// Whatever has nothing inside.
    Leaf(Value),
}

impl Tree {
    /// Of a value of a text, which stands at a path.
    pub fn new(value: Value, layer: usize, path: String) -> Self {
        let node = match value {
            Value::Mapping(map) => {
                let entries = map.into_iter().map(|(key, value)| {
                    let inner = join(&path, &key_text(&key));
                    (key, Self::new(value, layer, inner))
                });
                Node::Map(entries.collect())
            }
            Value::Sequence(items) => {
                let items = items.into_iter().enumerate().map(|(i, value)| Self::new(value, layer, format!("{path}[{i}]")));
                Node::List(items.collect())
            }
            other => Node::Leaf(other),
        };
        Self { origin: Origin { layer, path }, node, way: None }
    }

    /// The value alone.
    pub fn value(&self) -> Value {
        match &self.node {
            Node::Map(entries) => Value::Mapping(entries.iter().map(|(k, t)| (k.clone(), t.value())).collect()),
            Node::List(items) => Value::Sequence(items.iter().map(Self::value).collect()),
            Node::Leaf(value) => value.clone(),
        }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.node {
            Node::Map(entries) => entries.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, t)| t),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.node {
            Node::Map(entries) => entries.iter_mut().find(|(k, _)| k.as_str() == Some(key)).map(|(_, t)| t),
            _ => None,
        }
    }

    /// Takes a key out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let Node::Map(entries) = &mut self.node else { return None };
        let at = entries.iter().position(|(k, _)| k.as_str() == Some(key))?;
        Some(entries.remove(at).1)
    }

    /// Puts a value under a key of a mapping; what is no mapping becomes one.
    pub fn put(&mut self, key: &str, value: Self) {
        if let Some(place) = self.get_mut(key) {
            *place = value;
            return;
        }
        if !matches!(self.node, Node::Map(_)) {
            self.node = Node::Map(vec![]);
        }
        if let Node::Map(entries) = &mut self.node {
            entries.push((Value::String(key.to_string()), value));
        }
    }

    /// A text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.node {
            Node::Leaf(value) => value.as_str(),
            _ => None,
        }
    }

    /// Whether it is `~`: nothing.
    pub fn is_null(&self) -> bool {
        matches!(self.node, Node::Leaf(Value::Null))
    }

    /// What stands at a path such as `stages[1].prune`: the deepest value that is there, and what of the path is left.
    pub fn reach<'a>(&self, path: &'a str) -> (&Self, &'a str) {
        let path = path.trim_start_matches('.');
        let inner = match &self.node {
            Node::Map(entries) => entries.iter().find_map(|(key, tree)| {
                let rest = path.strip_prefix(key_text(key).as_str())?;
                let ends = rest.is_empty() || rest.starts_with(['.', '[']);
                (ends && !path.is_empty()).then_some((tree, rest))
            }),
            Node::List(items) => {
                let digits = path.trim_start_matches('[');
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                let index = digits[..end].parse::<usize>().ok();
                index.and_then(|i| items.get(i)).map(|tree| (tree, digits[end..].trim_start_matches(']')))
            }
            Node::Leaf(_) => None,
        };
        match inner {
            Some((tree, rest)) => tree.reach(rest),
            None => (self, path),
        }
    }
}

/// A key as paths have it.
fn key_text(key: &Value) -> String {
    match key {
        Value::String(text) => text.clone(),
        other => serde_yaml::to_string(other).unwrap_or_default().trim_end().to_string(),
    }
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}
