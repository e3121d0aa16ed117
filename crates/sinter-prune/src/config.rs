//! The configuration of `prune`.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_data::Dataset;
use sinter_model::{Model, Ratio};
use sinter_train::{FitConfig, LayerPattern, StageError, covers};

/// Removes weights. Exactly one of `structured`, `unstructured`, `pattern` and `blocks` says what.
///
/// ```yaml
/// - prune: { structured: { ratio: 50%, criterion: taylor }, finetune: { epochs: 3 } }
/// - prune: { unstructured: { sparsity: 95%, scope: global }, schedule: { cubic: {} }, finetune: { epochs: 20, distill: {} } }
/// - prune: { pattern: "2:4", criterion: obs, layers: [fc*] }
/// - prune: { blocks: 1 }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructuredConfig {
    /// Share of the channels to remove; with `scope: macs`, of the multiply-accumulates.
    pub ratio: Ratio,
    /// What makes a channel dispensable. Default: l2.
    #[serde(default)]
    pub criterion: Criterion,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRatio {
    pub r#match: LayerPattern,
    pub ratio: Ratio,
}

/// Unstructured pruning (Han et al., 2015).
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Distance to the layer's other channels: what lies in their midst can be replaced by them (He et al., 2019).
    GeometricMedian,
    /// A control.
    Random,
}

/// What makes a single weight dispensable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightCriterion {
    /// Its magnitude.
    #[default]
    Magnitude,
    /// Its square as a part of those of its layer that are no smaller (LAMP; Lee et al., 2021): layers of any scale compare. With one
    /// share for each layer it is magnitude.
    Lamp,
    /// First-order change of the loss (Molchanov et al., 2019).
    Taylor,
    /// Second-order change of the loss by the diagonal of the Fisher matrix (LeCun et al., Optimal Brain Damage, 1990).
    Fisher,
    /// Whether training moves it toward zero (Sanh et al., 2020). Needs `schedule: { cubic: {} }`.
    Movement,
    /// Magnitude times the norm of its input, within each output channel (Sun et al., Wanda, 2023).
    Wanda,
    /// The error that its removal leaves when the other weights of the row make up for it, which they then do (Hassibi and Stork,
    /// Optimal Brain Surgeon, 1993; Frantar and Alistarh, SparseGPT, 2023). One shot, per layer.
    Obs,
    /// A control.
    Random,
}

/// Over what scores are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IterativeConfig {
    pub rounds: usize,
    /// What each round starts from. Default: learning-rate.
    #[serde(default)]
    pub rewind: Rewind,
}

/// What goes back to its start in every round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// Errors on what can't be pruned so.
    pub(crate) fn check_config(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        let error = |key: &str, reason: String| Err(StageError::config(key, reason));
        let kinds = [self.structured.is_some(), self.unstructured.is_some(), self.pattern.is_some(), self.blocks.is_some()];
        let kinds = kinds.into_iter().filter(|k| *k).count();
        if kinds != 1 {
            return Err(StageError::Config {
                key: String::new(),
                reason: format!(
                    "prune needs exactly one of `structured`, `unstructured`, `pattern` and `blocks`, it has {kinds}"
                ),
                help: Some("write one `prune` stage for each kind".into()),
            });
        }
        if model.layers().is_empty() {
            return error("", "the model has no layer with weights to prune".into());
        }
        if self.pattern.is_none() {
            for (key, written) in [("layers", !self.layers.is_empty()), ("criterion", self.criterion.is_some())] {
                if written {
                    return error(key, format!("`{key}` goes with `pattern`; write it inside `structured` or `unstructured`"));
                }
            }
        }
        for (i, pattern) in self.layers.iter().enumerate() {
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
            return error("structured.ratio", "removing every channel leaves nothing: choose less than 100%".into());
        }
        if self.unstructured.as_ref().is_some_and(|u| u.block.contains(&0)) {
            return error("unstructured.block", "a rectangle has at least one row and one column".into());
        }
        self.check_schedule()?;
        self.check_data(data)?;
        match &self.finetune {
            Some(finetune) => finetune.check("finetune", data),
            None => Ok(()),
        }
    }

    fn check_schedule(&self) -> Result<(), StageError> {
        let help = |key: &str, reason: &str, help: &str| {
            Err(StageError::Config { key: key.into(), reason: reason.into(), help: Some(help.into()) })
        };
        if self.schedule != Schedule::OneShot && self.finetune.is_none() {
            return help("schedule", "this schedule prunes while the model trains", "add `finetune: { epochs: ... }`");
        }
        match &self.schedule {
            Schedule::Cubic(_) if self.unstructured.is_none() => {
                return help(
                    "schedule",
                    "the cubic schedule is for single weights",
                    "use `schedule: { iterative: { rounds: 4 } }`",
                );
            }
            Schedule::Cubic(c) if c.every == 0 => return help("schedule.cubic.every", "`every` counts steps", "at least 1"),
            Schedule::Iterative(i) if i.rounds == 0 => {
                return help("schedule.iterative.rounds", "there must be a round", "at least 1");
            }
            Schedule::Iterative(i) if i.rewind == Rewind::Weights && (self.structured.is_some() || self.blocks.is_some()) => {
                let reason = "weights that were removed from the graph can't go back";
                return help("schedule.iterative.rewind", reason, "use `rewind: learning-rate`");
            }
            _ => {}
        }
        let gradual = matches!(self.schedule, Schedule::Cubic(_));
        let (key, criterion) = match &self.unstructured {
            Some(u) => ("unstructured.criterion", u.criterion),
            None => ("criterion", self.criterion.unwrap_or_default()),
        };
        if criterion == WeightCriterion::Movement && !gradual {
            return help(key, "movement is only seen while the model trains", "add `schedule: { cubic: {} }` and `finetune`");
        }
        if criterion == WeightCriterion::Obs {
            let apart = self
                .unstructured
                .as_ref()
                .is_some_and(|u| !matches!(u.scope, Scope::Layer | Scope::Sensitivity) || u.block != [1, 1]);
            if gradual || apart {
                let reason = "obs prunes each layer in one go, weight by weight";
                return help(key, reason, "use `scope: layer` without `block`, one-shot or iterative");
            }
        }
        Ok(())
    }

    fn check_data(&self, data: &Dataset) -> Result<(), StageError> {
        use WeightCriterion as W;
        let weights = self.unstructured.as_ref().map(|u| u.criterion).or(self.criterion);
        let labels = self.structured.as_ref().is_some_and(|s| s.criterion == Criterion::Taylor)
            || matches!(weights, Some(W::Taylor | W::Fisher));
        let samples = labels || self.blocks.is_some() || matches!(weights, Some(W::Wanda | W::Obs));
        let key = match (&self.structured, &self.unstructured, &self.blocks) {
            (Some(_), ..) => "structured.criterion",
            (_, Some(_), _) => "unstructured.criterion",
            (.., Some(_)) => "blocks",
            _ => "criterion",
        };
        if samples && data.train.is_empty() {
            return Err(StageError::config(key, "this criterion needs training samples, and there are none"));
        }
        if labels && data.task == sinter_data::Task::Classify && !data.train.is_labelled() {
            return Err(StageError::config(key, "this criterion needs labelled training samples"));
        }
        Ok(())
    }
}
