//! Which layers a stage acts on.

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::{Layer, Model};

use crate::stage::StageError;

/// A glob over a layer's name or its weight's name, or an operator type: `fc*`, `block?.depthwise`, `Conv`.
#[derive(Debug, Clone)]
pub struct LayerPattern {
    text: String,
    glob: GlobMatcher,
}

impl LayerPattern {
    /// Reads a pattern. Errors on a malformed glob.
    pub fn new(text: &str) -> Result<Self, String> {
        match Glob::new(text) {
            Ok(glob) => Ok(Self { text: text.to_string(), glob: glob.compile_matcher() }),
            Err(e) => Err(format!("`{text}` is not a pattern of layers: {}", e.kind())),
        }
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it names this layer.
    pub fn matches(&self, model: &Model, layer: &Layer) -> bool {
        let kind = model.graph.nodes[layer.node].kind();
        self.text == kind || self.glob.is_match(&layer.name) || self.glob.is_match(&layer.weight)
    }
}

impl std::str::FromStr for LayerPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text)
    }
}

impl Serialize for LayerPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for LayerPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a pattern of layers such as fc*")
    }
}

/// Errors unless the pattern under `key` names at least one layer.
pub fn covers(model: &Model, pattern: &LayerPattern, key: &str) -> Result<(), StageError> {
    if matching(model, pattern).next().is_some() {
        return Ok(());
    }
    let names: Vec<String> = model.layers().into_iter().map(|l| l.name).collect();
    Err(StageError::Config {
        key: key.to_string(),
        reason: format!("the layer pattern `{}` matches nothing", pattern.text()),
        help: Some(format!("the model's layers are {}", names.join(", "))),
    })
}

/// The layers that a pattern names, in graph order.
pub fn matching<'a>(model: &'a Model, pattern: &'a LayerPattern) -> impl Iterator<Item = Layer> + 'a {
    model.layers().into_iter().filter(|l| pattern.matches(model, l))
}
