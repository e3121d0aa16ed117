//! A configuration file: read, parsed, and asked where things stand.

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::ConfigError;
use super::layer::Layer;
use super::paths::Paths;
use super::texts::Texts;
use super::tree::Tree;
use super::words::{Places, known_path, translate};
use super::{extends, set, variables};

/// A configuration file, with what it stands upon and what was changed of it: its text, and where everything in it stands.
#[derive(Debug)]
pub struct Source {
    texts: Texts,
    /// What all texts say together; of a file that stands alone, the file itself is parsed.
    together: Option<Tree>,
    /// Variables that came from the environment, and their texts.
    pub(crate) taken: Vec<(String, String)>,
}

impl Source {
    /// Reads a file that stands alone. The error names it and says whether it is missing.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self { texts: Texts::of(Layer::read(path)?), together: None, taken: vec![] })
    }

    /// Reads a file that may extend others and hold variables, and changes it by arguments `KEY=VALUE`. `paths` says which values are paths relative to their file.
    pub(crate) fn layered(path: &Path, changes: &[String], paths: &Paths) -> Result<Self, ConfigError> {
        let Self { mut texts, together, taken } = Self::read(path)?;
        let tree = texts.tree(0);
        let plain = |tree: &Tree| tree.get("extends").is_none() && tree.get("vars").is_none();
        if changes.is_empty() && !texts.layer(0).yaml().contains("${") && tree.as_ref().map_or(true, plain) {
            return Ok(Self { texts, together, taken });
        }
        let mut tree = extends::load(path, tree?, &mut texts, paths)?;
        set::set(&mut tree, changes, &mut texts)?;
        let taken = variables::fill(&mut tree, &texts)?;
        Ok(Self { texts, together: Some(tree), taken })
    }

    /// Which text a path comes from, and its path there.
    fn place(&self, path: &str) -> (&Layer, String) {
        let Some(tree) = &self.together else { return (self.texts.layer(0), path.to_string()) };
        let (found, rest) = tree.reach(path);
        let joint = if rest.is_empty() || rest.starts_with('[') || found.origin.path.is_empty() { "" } else { "." };
        (self.texts.layer(found.origin.layer), format!("{}{joint}{rest}", found.origin.path))
    }

    /// An error at the value (or key) of a path within the file.
    pub fn error(&self, path: &str, message: impl Into<String>, help: Option<String>) -> ConfigError {
        let (layer, path) = self.place(path);
        layer.error(layer.find(&path), message, "here", help)
    }

    /// Errors on a `name` of the file that can't be that of a folder.
    pub fn names_folder(&self, name: &str) -> Result<(), ConfigError> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(fine) || name.starts_with('.') {
            let help = Some("use letters, digits, `-`, `_` and `.`: the name becomes a folder".into());
            return Err(self.error("name", format!("`{name}` can't name a folder"), help));
        }
        Ok(())
    }

    /// Parses the file.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        use serde_yaml::with::singleton_map_recursive::deserialize;
        let mut track = serde_path_to_error::Track::new();
        let parsed: Result<T, serde_yaml::Error> = match &self.together {
            None => {
                let yaml = serde_yaml::Deserializer::from_str(self.texts.layer(0).yaml());
                deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track))
            }
            Some(tree) => {
                // Written out and read again: a value is read as in a file, where `name: 5` is a name.
                let text = serde_yaml::to_string(&tree.value());
                text.and_then(|text| {
                    let yaml = serde_yaml::Deserializer::from_str(&text);
                    deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track))
                })
            }
        };
        parsed.map_err(|e| translate(&e, &known_path(&track.path()), self))
    }
}

impl Places for Source {
    fn layer(&self, path: &str) -> &Layer {
        self.place(path).0
    }

    fn key(&self, path: &str) -> Option<Range<usize>> {
        let (layer, own) = self.place(path);
        layer.key(&own)
    }

    fn character(&self, line: usize, column: usize) -> Option<Range<usize>> {
        // Of what was put together nobody has seen the lines.
        self.together.is_none().then(|| self.texts.layer(0).character(line, column))
    }

    fn find(&self, path: &str) -> Option<Range<usize>> {
        let (layer, own) = self.place(path);
        layer.find(&own)
    }
}
