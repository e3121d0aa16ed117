//! Which layers a stage acts on.

use std::collections::BTreeSet;

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::{Layer, Model};

use crate::error::StageError;

/// Names that are suggested for one that matches nothing.
const NEAREST: usize = 3;
/// Layers that an error lists.
const SHOWN: usize = 12;

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

impl schemars::JsonSchema for LayerPattern {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LayerPattern".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let what = "a glob over a layer's name or its weight's name, or an operator type";
        sinter_model::choices::text_schema(what, &["fc*", "block?.depthwise", "Conv"])
    }
}

impl PartialEq for LayerPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Errors unless the pattern under `key` names at least one of the model's layers.
pub fn covers(model: &Model, pattern: &LayerPattern, key: &str) -> Result<(), StageError> {
    covers_one_of(model, &model.layers(), pattern, key)
}

/// Errors unless the pattern under `key` names at least one of these layers of the model.
pub fn covers_one_of(model: &Model, layers: &[Layer], pattern: &LayerPattern, key: &str) -> Result<(), StageError> {
    if layers.iter().any(|l| pattern.matches(model, l)) {
        return Ok(());
    }
    let names: BTreeSet<&str> = layers.iter().flat_map(|l| [l.name.as_str(), l.weight.as_str()]).collect();
    let plain = pattern.text().replace(['*', '?'], "");
    let mut nearest: Vec<(usize, &str)> = names.iter().map(|n| (strsim::damerau_levenshtein(n, &plain), *n)).collect();
    nearest.sort();
    let close: Vec<&str> = nearest.iter().filter(|(d, n)| *d <= 1 + n.len() / 3).take(NEAREST).map(|(_, n)| *n).collect();
    let shown = layers.iter().take(SHOWN).map(|l| l.name.as_str()).collect::<Vec<_>>().join(", ");
    let more = if layers.len() > SHOWN { format!(" and {} more", layers.len() - SHOWN) } else { String::new() };
    let list = format!("the model's layers are {shown}{more}");
    let help = if close.is_empty() { list } else { format!("did you mean {}? {list}", close.join(" or ")) };
    let reason = format!("the layer pattern `{}` matches nothing", pattern.text());
    Err(StageError::config_help(key, reason, help))
}

/// The layers that a pattern names, in graph order.
pub fn matching<'a>(model: &'a Model, pattern: &'a LayerPattern) -> impl Iterator<Item = Layer> + 'a {
    model.layers().into_iter().filter(|l| pattern.matches(model, l))
}
