//! Errors in a user's file, with the place.

use std::path::Path;

use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::de::DeserializeOwned;

use crate::position::Positions;

/// Something in a configuration file that can't be followed: what, where, and what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct ConfigError {
    pub message: String,
    #[source_code]
    source_code: Option<NamedSource<String>>,
    #[label("{label}")]
    span: Option<SourceSpan>,
    label: String,
    #[help]
    pub help: Option<String>,
}

impl ConfigError {
    /// An error without a place in a file.
    pub fn plain(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), source_code: None, span: None, label: String::new(), help }
    }

    /// `FILE:LINE:COLUMN` of the place, where there is one.
    pub fn place(&self) -> Option<String> {
        let (source, span) = (self.source_code.as_ref()?, self.span?);
        let before = source.inner().get(..span.offset())?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        Some(format!("{}:{line}:{column}", source.name()))
    }
}

/// A configuration file: its text, and where everything in it stands.
#[derive(Debug)]
pub struct Source {
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
        Ok(Self { name: path.display().to_string(), positions: Positions::new(&text), text })
    }

    /// An error at the value (or key) of a path within the file.
    pub fn error(&self, path: &str, message: impl Into<String>, help: Option<String>) -> ConfigError {
        self.at(self.positions.find(path), message, "here", help)
    }

    fn at(
        &self,
        range: Option<std::ops::Range<usize>>,
        message: impl Into<String>,
        label: &str,
        help: Option<String>,
    ) -> ConfigError {
        ConfigError {
            message: message.into(),
            source_code: Some(NamedSource::new(&self.name, self.text.clone())),
            span: Some(range.unwrap_or(0..0).into()),
            label: label.to_string(),
            help,
        }
    }

    /// Parses the file.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let deserializer = serde_yaml::Deserializer::from_str(&self.text);
        serde_yaml::with::singleton_map_recursive::deserialize(deserializer).map_err(|e: serde_yaml::Error| self.translate(&e))
    }

    /// Turns serde's words into ours: the place, the nearest valid key.
    fn translate(&self, error: &serde_yaml::Error) -> ConfigError {
        let full = error.to_string();
        let text = full.rsplit_once(" at line ").map_or(full.as_str(), |(head, _)| head);
        let (path, text) = split_path(text);
        let here = error.location().map(|l| {
            let start = self.text.split_inclusive('\n').take(l.line() - 1).map(str::len).sum::<usize>();
            let line = self.text[start..].lines().next().unwrap_or("");
            let offset = line.char_indices().nth(l.column() - 1).map_or(line.len(), |(i, _)| i);
            start + offset..start + offset + usize::from(offset < line.len())
        });
        if let Some(rest) = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `")) {
            let (wrong, rest) = rest.split_once('`').unwrap_or((rest, ""));
            let valid = quoted(rest);
            let nearest = valid
                .iter()
                .map(|v| (strsim::damerau_levenshtein(v, wrong), v))
                .min()
                .filter(|(distance, v)| *distance <= 1 + v.len() / 3)
                .map(|(_, v)| v.clone());
            let list = valid.join(", ");
            let help = match nearest {
                Some(near) => format!("did you mean `{near}`? Valid here: {list}"),
                None => format!("valid here: {list}"),
            };
            let key = if path.is_empty() { wrong.to_string() } else { format!("{path}.{wrong}") };
            let range = self.positions.key(&key).or_else(|| self.positions.find(&path)).or(here);
            let what = if text.starts_with("unknown field") { "key" } else { "name" };
            return self.at(range, format!("unknown {what} `{wrong}`"), "not known here", Some(help));
        }
        if let Some(field) = text.strip_prefix("missing field `").and_then(|r| r.split_once('`')).map(|(f, _)| f) {
            let range = self.positions.key(&path).or_else(|| self.positions.find(&path)).or(here);
            return self.at(range, format!("the key `{field}` is missing"), "in here", Some(format!("add `{field}: …`")));
        }
        let range = if path.is_empty() { here } else { self.positions.find(&path).or(here) };
        self.at(range, plain_words(&text), "here", None)
    }
}

/// serde_yaml prefixes messages with the path: `stages[0].train: invalid type: ...`.
fn split_path(text: &str) -> (String, String) {
    if let Some((path, rest)) = text.split_once(": ") {
        let is_path = !path.is_empty() && path.chars().all(|c| c.is_alphanumeric() || "_-.[]".contains(c));
        let is_message = ["invalid type", "invalid value", "unknown", "missing", "duplicate", "invalid length"]
            .iter()
            .any(|m| path.starts_with(m));
        if is_path && !is_message {
            return (path.to_string(), rest.to_string());
        }
    }
    (String::new(), text.to_string())
}

fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// Rust's names of types in words of YAML.
fn plain_words(text: &str) -> String {
    let mut out = text.to_string();
    for (rust, plain) in [
        ("expected usize", "expected a whole number"),
        ("expected u64", "expected a whole number"),
        ("expected i64", "expected a whole number"),
        ("expected u32", "expected a whole number"),
        ("expected u8", "expected a small whole number"),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("invalid type: ", "wrong type: "),
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
