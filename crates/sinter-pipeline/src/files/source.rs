//! A configuration file: read, parsed, and asked where things stand.

use std::ops::Range;
use std::path::Path;

use miette::NamedSource;
use serde::de::DeserializeOwned;

use super::error::ConfigError;
use super::positions::Positions;

/// A configuration file: its text, and where everything in it stands.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    text: String,
    positions: Positions,
}

impl Source {
    /// Reads a file. The error names it and says whether it is missing.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let help = (e.kind() == std::io::ErrorKind::NotFound)
                .then(|| "check the path; it is relative to the current folder".to_string());
            ConfigError::plain(format!("could not read {}: {e}", path.display()), help)
        })?;
        Ok(Self::new(&path.display().to_string(), text))
    }

    /// A text under a name.
    pub fn new(name: &str, text: String) -> Self {
        Self { name: name.to_string(), positions: Positions::new(&text), text }
    }

    /// An error at the value (or key) of a path within the file.
    pub fn error(&self, path: &str, message: impl Into<String>, help: Option<String>) -> ConfigError {
        self.at(self.positions.find(path), message, "here", help)
    }

    fn at(&self, range: Option<Range<usize>>, message: impl Into<String>, label: &str, help: Option<String>) -> ConfigError {
        let source = NamedSource::new(&self.name, self.text.clone());
        ConfigError::at(source, range.unwrap_or(0..0), message.into(), label, help)
    }

    /// Parses the file.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut track = serde_path_to_error::Track::new();
        let yaml = serde_yaml::Deserializer::from_str(&self.text);
        let tracked = serde_path_to_error::Deserializer::new(yaml, &mut track);
        let parsed = serde_yaml::with::singleton_map_recursive::deserialize(tracked);
        parsed.map_err(|e: serde_yaml::Error| self.translate(&e, &track.path()))
    }

    /// Turns serde's words into ours: the place, the nearest valid key.
    fn translate(&self, error: &serde_yaml::Error, path: &serde_path_to_error::Path) -> ConfigError {
        let full = error.to_string();
        let text = full.rsplit_once(" at line ").map_or(full.as_str(), |(head, _)| head);
        let path = known_path(path);
        let text = without_path(text);
        let here = error.location().map(|l| self.range(l.line(), l.column()));
        if let Some(rest) = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `")) {
            let (wrong, rest) = rest.split_once('`').unwrap_or((rest, ""));
            let valid = quoted(rest);
            let list = valid.join(", ");
            let help = match nearest(wrong, &valid) {
                Some(near) => format!("did you mean `{near}`? Valid here: {list}"),
                None if valid.is_empty() => "there are no keys here".to_string(),
                None => format!("valid here: {list}"),
            };
            let key = if path.is_empty() { wrong.to_string() } else { format!("{path}.{wrong}") };
            let own = (path == wrong || path.ends_with(&format!(".{wrong}"))).then(|| self.positions.key(&path)).flatten();
            let range = own.or_else(|| self.positions.key(&key)).or_else(|| self.positions.find(&path)).or(here);
            let what = if text.starts_with("unknown field") { "key" } else { "name" };
            return self.at(range, format!("unknown {what} `{wrong}`"), "not known here", Some(help));
        }
        if let Some(field) = text.strip_prefix("missing field `").and_then(|r| r.split_once('`')).map(|(f, _)| f) {
            let range = self.positions.key(&path).or_else(|| self.positions.find(&path)).or(here);
            return self.at(range, format!("the key `{field}` is missing"), "in here", Some(format!("add `{field}: …`")));
        }
        let range = if path.is_empty() { here } else { self.positions.find(&path).or(here) };
        self.at(range, plain_words(text), "here", None)
    }

    /// The character at a line and a column, both counted from one.
    fn range(&self, line: usize, column: usize) -> Range<usize> {
        let start = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
        let line = self.text.get(start..).and_then(|t| t.lines().next()).unwrap_or("");
        let offset = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(i, _)| i);
        start + offset..start + offset + usize::from(offset < line.len())
    }
}

/// The path down to what is known of it: `stages[0].train.epochs`.
fn known_path(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out += &format!("[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !out.is_empty() {
                    out.push('.');
                }
                out += key;
            }
            Segment::Unknown => break,
        }
    }
    out
}

/// serde_yaml prefixes messages with the path: `stages[0].train: invalid type: ...`.
fn without_path(text: &str) -> &str {
    let Some((path, rest)) = text.split_once(": ") else { return text };
    let is_path = !path.is_empty() && path.chars().all(|c| c.is_alphanumeric() || "_-.[]".contains(c));
    let is_message = ["invalid type", "invalid value", "unknown", "missing", "duplicate", "invalid length"]
        .iter()
        .any(|m| path.starts_with(m));
    if is_path && !is_message { rest } else { text }
}

/// The nearest of the valid names, where one is near.
fn nearest(wrong: &str, valid: &[String]) -> Option<String> {
    let all = valid.iter().map(|v| (strsim::damerau_levenshtein(v, wrong), v));
    all.min().filter(|(distance, v)| *distance <= 1 + v.len() / 3).map(|(_, v)| v.clone())
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// Rust's names of types in words of YAML.
fn plain_words(text: &str) -> String {
    let mut out = text.to_string();
    for (rust, plain) in [
        ("expected a nonzero usize", "expected a whole number, 1 or more"),
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected i64", "expected a whole number"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected u8", "expected a small whole number"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("invalid type: ", "wrong type: "),
        ("invalid value: ", "wrong value: "),
        ("floating point", "number"),
        ("unit value", "nothing"),
    ] {
        out = out.replace(rust, plain);
    }
    match out.find("expected struct ") {
        Some(at) => format!("{}expected a mapping of keys", &out[..at]),
        None => out,
    }
}
