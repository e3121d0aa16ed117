//! What the YAML parser says, in words of ours: the place, and the nearest valid key.

use std::ops::Range;

use super::error::ConfigError;
use super::layer::Layer;

/// Where paths of what is parsed stand.
pub(super) trait Places {
    /// The text in which a path, or what encloses it, was written.
    fn layer(&self, path: &str) -> &Layer;
    /// The character at a line and a column of what was parsed.
    fn character(&self, line: usize, column: usize) -> Option<Range<usize>>;
    /// Where its key stands there.
    fn key(&self, path: &str) -> Option<Range<usize>>;
    /// Where its value stands there, or what encloses it.
    fn find(&self, path: &str) -> Option<Range<usize>>;
}

impl Places for Layer {
    fn layer(&self, _path: &str) -> &Layer {
        self
    }

    fn key(&self, path: &str) -> Option<Range<usize>> {
        Layer::key(self, path)
    }

    fn character(&self, line: usize, column: usize) -> Option<Range<usize>> {
        Some(Layer::character(self, line, column))
    }

    fn find(&self, path: &str) -> Option<Range<usize>> {
        Layer::find(self, path)
    }
}

/// The error at its place.
pub(super) fn translate(error: &serde_yaml::Error, path: &str, places: &dyn Places) -> ConfigError {
    let full = error.to_string();
    let text = full.rsplit_once(" at line ").map_or(full.as_str(), |(head, _)| head);
    let text = without_path(text);
    let here = error.location().and_then(|l| places.character(l.line(), l.column()));
    if let Some(rest) = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `")) {
        let (wrong, rest) = rest.split_once('`').unwrap_or((rest, ""));
        let valid = quoted(rest);
        let list = valid.join(", ");
        let help = match nearest(wrong, &valid) {
            Some(near) => format!("did you mean `{near}`? Valid here: {list}"),
            None if valid.is_empty() => "there are no keys here".to_string(),
            None => format!("valid here: {list}"),
        };
        let own = (path == wrong || path.ends_with(&format!(".{wrong}"))).then(|| places.key(path)).flatten();
        let inner = if path.is_empty() { wrong.to_string() } else { format!("{path}.{wrong}") };
        let (at, range) = match (own, places.key(&inner)) {
            (Some(own), _) => (path, Some(own)),
            (None, Some(key)) => (inner.as_str(), Some(key)),
            (None, None) => (path, places.find(path).or(here)),
        };
        let what = if text.starts_with("unknown field") { "key" } else { "name" };
        return places.layer(at).error(range, format!("unknown {what} `{wrong}`"), "not known here", Some(help));
    }
    let layer = places.layer(path);
    if let Some(field) = text.strip_prefix("missing field `").and_then(|r| r.split_once('`')).map(|(f, _)| f) {
        let range = places.key(path).or_else(|| places.find(path)).or(here);
        return layer.error(range, format!("the key `{field}` is missing"), "in here", Some(format!("add `{field}: …`")));
    }
    // A brace ends a value that stands within braces.
    let line = here.as_ref().and_then(|range| layer.text.get(..range.start)).map(|before| before.matches('\n').count());
    let open = line.and_then(|line| layer.text.lines().nth(line));
    let help =
        open.filter(|line| line.contains("${")).map(|_| "within `{ }` a variable stands in quotes: `\"${NAME}\"`".to_string());
    let range = if path.is_empty() { here } else { places.find(path).or(here) };
    layer.error(range, plain_words(text), "here", help)
}

/// The path down to what is known of it: `stages[0].train.epochs`.
pub(super) fn known_path(path: &serde_path_to_error::Path) -> String {
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
