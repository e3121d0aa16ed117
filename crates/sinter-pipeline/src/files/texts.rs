//! The texts that a configuration comes from: files that stand upon one another, and arguments of the command line.

use serde_yaml::Value;

use super::error::ConfigError;
use super::layer::Layer;
use super::tree::Tree;
use super::words::translate;

/// All texts that a configuration comes from.
#[derive(Debug)]
pub(super) struct Texts(Vec<Layer>);

impl Texts {
    /// One alone.
    pub fn of(layer: Layer) -> Self {
        Self(vec![layer])
    }

    /// By its number.
    pub fn layer(&self, number: usize) -> &Layer {
        &self.0[number]
    }

    /// What a text says; its values know that they are of it.
    pub fn tree(&self, number: usize) -> Result<Tree, ConfigError> {
        let layer = &self.0[number];
        let value: Value = serde_yaml::from_str(layer.yaml()).map_err(|e| translate(&e, "", layer))?;
        Ok(Tree::new(value, number, String::new()))
    }

    /// Takes a text in, and gives what it says.
    pub fn add(&mut self, layer: Layer) -> Result<Tree, ConfigError> {
        self.0.push(layer);
        self.tree(self.0.len() - 1)
    }

    /// A value as it was written, without quotes.
    pub fn written(&self, tree: &Tree) -> String {
        let layer = &self.0[tree.origin.layer];
        let written = layer.find(&tree.origin.path).and_then(|range| layer.text.get(range)).unwrap_or_default().trim();
        tree.text().unwrap_or(written).to_string()
    }

    /// An error at a value.
    pub fn error(&self, at: &Tree, message: impl Into<String>, help: Option<String>) -> ConfigError {
        let layer = &self.0[at.origin.layer];
        layer.error(layer.find(&at.origin.path), message, "here", help)
    }

    /// An error at the key of a value.
    pub fn key_error(&self, at: &Tree, message: impl Into<String>, help: Option<String>) -> ConfigError {
        let layer = &self.0[at.origin.layer];
        layer.error(layer.key(&at.origin.path), message, "here", help)
    }
}
