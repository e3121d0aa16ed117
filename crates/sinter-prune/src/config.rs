//! The configuration of `prune`.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::{Model, Ratio};
use sinter_train::{FitConfig, LayerPattern, StageError, covers};

/// Removes weights. Exactly one of `structured`, `unstructured` and `pattern` says how.
///
/// ```yaml
/// - prune: { structured: { ratio: 50%, criterion: taylor }, finetune: { epochs: 3 } }
/// - prune: { unstructured: { sparsity: 80%, scope: global } }
/// - prune: { pattern: "2:4", layers: [fc*] }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneConfig {
    /// Remove whole channels and neurons.
    #[serde(default)]
    pub structured: Option<StructuredConfig>,
    /// Set single weights to zero.
    #[serde(default)]
    pub unstructured: Option<UnstructuredConfig>,
    /// Keep at most N of each M consecutive weights along the input channels, written "N:M".
    #[serde(default)]
    pub pattern: Option<NmText>,
    /// With `pattern`: only these layers. Default: every layer whose input channels are a multiple of M.
    #[serde(default)]
    pub layers: Vec<LayerPattern>,
    /// Train afterwards. Default: no.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

/// Structured pruning.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructuredConfig {
    /// Share of the channels to remove.
    pub ratio: Ratio,
    /// What makes a channel dispensable. Default: l2.
    #[serde(default)]
    pub criterion: Criterion,
    /// Whether every layer loses the same share, or the least important channels go wherever they are. Default: layer.
    #[serde(default)]
    pub scope: Scope,
    /// Other shares for some layers; 0 leaves a layer as it is.
    #[serde(default)]
    pub layers: Vec<LayerRatio>,
}

/// A share for some layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRatio {
    pub r#match: LayerPattern,
    pub ratio: Ratio,
}

/// Unstructured pruning by magnitude (Han et al., 2015).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnstructuredConfig {
    /// Share of the weights to set to zero.
    pub sparsity: Ratio,
    /// Default: layer.
    #[serde(default)]
    pub scope: Scope,
    /// Other shares for some layers (with scope: layer).
    #[serde(default)]
    pub layers: Vec<LayerRatio>,
}

/// What makes a channel dispensable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Sum of magnitudes (Li et al., 2017).
    L1,
    /// Euclidean norm.
    #[default]
    L2,
    /// First-order change of the loss (Molchanov et al., 2019).
    Taylor,
    /// Magnitude of the batch normalisation's scale (Liu et al., 2017); L2 where a layer has none.
    BnScale,
    /// A control.
    Random,
}

/// Over what scores are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    #[default]
    Layer,
    Global,
}

/// An N:M pattern as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NmText {
    pub n: usize,
    pub m: usize,
}

impl FromStr for NmText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(n, m)| Some((n.trim().parse().ok()?, m.trim().parse().ok()?)));
        match parsed {
            Some((n, m)) if 0 < n && n < m && m <= 64 => Ok(Self { n, m }),
            _ => Err(format!("`{text}` is not a pattern: write \"N:M\" with 0 < N < M <= 64, such as \"2:4\", in quotes")),
        }
    }
}

impl std::fmt::Display for NmText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.n, self.m)
    }
}

impl Serialize for NmText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NmText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a pattern such as \"2:4\", in quotes")
    }
}

impl PruneConfig {
    /// Errors unless exactly one kind is chosen and every layer pattern names a layer.
    pub(crate) fn check_config(&self, model: &Model) -> Result<(), StageError> {
        let kinds = self.structured.is_some() as u8 + self.unstructured.is_some() as u8 + self.pattern.is_some() as u8;
        if kinds != 1 {
            return Err(StageError::Config {
                key: String::new(),
                reason: format!("prune needs exactly one of `structured`, `unstructured` and `pattern`, it has {kinds}"),
                help: Some("write one `prune` stage for each kind".into()),
            });
        }
        if model.layers().is_empty() {
            return Err(StageError::config("", "the model has no layer with weights to prune"));
        }
        for (i, pattern) in self.layers.iter().enumerate() {
            if self.pattern.is_none() {
                return Err(StageError::config(
                    "layers",
                    "`layers` goes with `pattern`; write it inside `structured` or `unstructured`",
                ));
            }
            covers(model, pattern, &format!("layers[{i}]"))?;
        }
        let lists = [
            ("structured", self.structured.as_ref().map(|s| &s.layers)),
            ("unstructured", self.unstructured.as_ref().map(|s| &s.layers)),
        ];
        for (key, list) in lists {
            for (i, layer) in list.into_iter().flatten().enumerate() {
                covers(model, &layer.r#match, &format!("{key}.layers[{i}].match"))?;
            }
        }
        let full = |r: Ratio| r.get() >= 1.0;
        if self.structured.as_ref().is_some_and(|s| full(s.ratio) || s.layers.iter().any(|l| full(l.ratio))) {
            return Err(StageError::config("structured.ratio", "removing every channel leaves nothing: choose less than 100%"));
        }
        Ok(())
    }
}
