//! The configuration of `prune`.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::Ratio;
use sinter_train::{FitConfig, LayerPattern};

use crate::criteria::{ChannelCriterion, WeightCriterion};

/// Removes weights. Exactly one of `structured`, `unstructured`, `pattern` and `blocks` says what.
///
/// ```yaml
/// - prune: { structured: { ratio: 50%, criterion: taylor }, finetune: { epochs: 3 } }
/// - prune: { unstructured: { sparsity: 95%, scope: global }, schedule: { cubic: {} }, finetune: { epochs: 20, distill: {} } }
/// - prune: { pattern: "2:4", criterion: obs, layers: [fc*] }
/// - prune: { blocks: 1 }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneConfig {
    /// Remove whole channels, neurons and heads.
    #[serde(default)]
    pub structured: Option<StructuredConfig>,
    /// Set single weights, or rectangles of them, to zero.
    #[serde(default)]
    pub unstructured: Option<UnstructuredConfig>,
    /// Keep at most N of each M consecutive weights along the input channels, written "N:M".
    #[serde(default)]
    pub pattern: Option<NmText>,
    /// Remove so many residual blocks: those whose output differs least from their input (Men et al., ShortGPT, 2024).
    #[serde(default)]
    pub blocks: Option<usize>,
    /// With `pattern`: what makes a weight dispensable. Default: magnitude.
    #[serde(default)]
    pub criterion: Option<WeightCriterion>,
    /// With `pattern`: only these layers. Default: every layer whose input channels are a multiple of M.
    #[serde(default)]
    pub layers: Vec<LayerPattern>,
    /// How the share is reached. Default: one-shot.
    #[serde(default)]
    pub schedule: Schedule,
    /// Train afterwards, or (with a schedule) meanwhile. Default: no.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

/// Structured pruning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StructuredConfig {
    /// Share of the channels to remove; with `scope: macs`, of the multiply-accumulates.
    pub ratio: Ratio,
    /// What makes a channel dispensable. Default: l2.
    #[serde(default)]
    pub criterion: ChannelCriterion,
    /// Over what channels compete. Default: layer.
    #[serde(default)]
    pub scope: Scope,
    /// Whether the layers that read removed channels are fitted by least squares to their outputs of before (He et al., 2017). Default: true.
    #[serde(default = "yes")]
    pub refit: bool,
    /// Other shares for some layers; 0 leaves a layer as it is.
    #[serde(default)]
    pub layers: Vec<LayerRatio>,
}

fn yes() -> bool {
    true
}

/// A share for some layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerRatio {
    /// Which layers.
    pub r#match: LayerPattern,
    /// Their share.
    pub ratio: Ratio,
}

/// Unstructured pruning (Han et al., 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnstructuredConfig {
    /// Share of the weights to set to zero; with `scope: macs`, of the multiply-accumulates.
    pub sparsity: Ratio,
    /// What makes a weight dispensable. Default: magnitude.
    #[serde(default)]
    pub criterion: WeightCriterion,
    /// Over what weights compete. Default: layer.
    #[serde(default)]
    pub scope: Scope,
    /// Rows (output channels) and columns (inputs) of the rectangles that stand or fall together. Default: [1, 1].
    #[serde(default = "single")]
    pub block: [usize; 2],
    /// Other shares for some layers; 0 leaves a layer as it is.
    #[serde(default)]
    pub layers: Vec<LayerRatio>,
}

fn single() -> [usize; 2] {
    [1, 1]
}

/// Over what scores are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "PruneScope")]
pub enum Scope {
    /// Every layer loses the same share.
    #[default]
    Layer,
    /// The least important go wherever they are; no layer keeps less than a fifth of the share that all keep together.
    Global,
    /// As global, but scores count per multiply-accumulate that goes with them, and the share is one of multiply-accumulates. No layer
    /// loses a larger share of its channels, unless the others can't make up for it.
    Macs,
    /// Layers that a scan finds sensitive lose less: all lose what costs the same quality alone (Li et al., 2017).
    Sensitivity,
}

/// How the share is reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "PruneSchedule")]
pub enum Schedule {
    /// All at once, before fine-tuning.
    #[default]
    OneShot,
    /// While fine-tuning, along a cubic curve (Zhu and Gupta, 2017). Single weights only.
    Cubic(CubicConfig),
    /// In rounds, each with its own fine-tuning.
    Iterative(IterativeConfig),
}

/// The cubic schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CubicConfig {
    /// The share of training after which the full share is reached. Default: 70%.
    #[serde(default = "until")]
    pub until: Ratio,
    /// Steps between two prunings. Default: 20.
    #[serde(default = "every")]
    pub every: usize,
}

impl Default for CubicConfig {
    fn default() -> Self {
        Self { until: until(), every: every() }
    }
}

fn until() -> Ratio {
    Ratio::new(0.7).unwrap_or_default()
}

fn every() -> usize {
    20
}

/// The iterative schedule: what is kept shrinks by the same factor in every round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IterativeConfig {
    /// How many.
    pub rounds: usize,
    /// What each round starts from. Default: learning-rate.
    #[serde(default)]
    pub rewind: Rewind,
}

/// What goes back to its start in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rewind {
    /// The learning rate; weights stay as trained (Renda et al., 2020).
    #[default]
    LearningRate,
    /// The kept weights too: to their values when the stage began (Frankle and Carbin, 2019).
    Weights,
}

/// An N:M pattern as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NmText {
    /// Weights that stay of each run.
    pub n: usize,
    /// The length of a run.
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

impl JsonSchema for NmText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NmText".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        sinter_model::choices::text_schema("\"N:M\" with 0 < N < M <= 64, in quotes", &["2:4"])
    }
}
