//! The configuration of `quantize`.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::mixed::MixedConfig;
use crate::profile::Kernels;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_model::{Half, Layer, Levels, Model, Ratio};
use sinter_train::{FitConfig, LayerPattern, StageError, covers};

/// Puts weights and activations on integer grids.
///
/// ```yaml
/// - quantize: { weights: int8/channel, activations: uint8, calibrate: mse, accuracy_drop: 0.5% }
/// - quantize: { weights: int4/group:128, activations: none }
/// - quantize: { weights: int8/channel, mixed: { widths: [8, 4, 2], size: 30 KiB } }
/// - quantize:
///     weights: int4/channel
///     activations: uint4
///     layers: [{ match: conv1, weights: int8/channel, activations: uint8 }]
///     mode: qat
///     finetune: { epochs: 4, lr: 1e-3, distill: {} }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeConfig {
    /// A number format and, after a slash, over what one scale reaches: `int8` to `int2`, `ternary`, `binary`, `fp16`, `bf16`, or for
    /// weights alone `uint8` to `uint2`, whose zero point lies where it fits; `tensor`,
    /// `channel` or `group:N`. Default: what the target's kernels take, else int8/channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Format>,
    /// `uint8` to `uint2`, `int8` to `int2`, `symmetric8` with zero point 0, `none` for weights only, or `dynamic`: 8 bits over the range of what is there, which needs no
    /// calibration and suits transformers. Fewer than 8 bits go to what layers read; all else keeps 8. Default: what the target's kernels
    /// take, else uint8, which x86 runs fastest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<Activations>,
    /// How the range of an activation is chosen. Default: mse.
    #[serde(default)]
    pub calibrate: Calibration,
    /// Training samples to calibrate with. Default: 512.
    #[serde(default = "samples")]
    pub samples: usize,
    /// How scale moves between layers before weights are rounded: any of `equalize`, `smooth` and `awq`; `[]` for not at all. Default:
    /// equalize where one scale reaches over a tensor, smooth where a normalisation feeds layers that read integers, awq for weights
    /// alone that round to nearest below 8 bits; the last two only where they lessen the error on calibration samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Vec<Scaling>>,
    /// How weights are rounded. Default: nearest from 8 bits on, below that learned, or gptq for layers of more than a million weights
    /// (nearest in `mode: qat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding: Option<Rounding>,
    /// Shift biases by what rounding the weights adds to the mean of each output channel (Nagel et al., 2019). Default: true.
    #[serde(default = "yes")]
    pub correct_bias: bool,
    /// Train the biases, and nothing else, on the labels of three quarters of the calibration samples; the rest says whether it helped. For
    /// models that meet other data than they were trained on. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tune_biases: bool,
    /// `ptq` quantizes and stops; `qat` trains with the grids in place. Default: ptq.
    #[serde(default)]
    pub mode: Mode,
    /// What `mode: qat` does with the scales: `learned` trains them too (Esser et al., 2020), `fixed` keeps the calibrated ones,
    /// `moving-average` lets those of activations follow their extremes (Jacob et al., 2018). Default: learned.
    #[serde(default)]
    pub scales: Scales,
    /// Whether `mode: qat` trains with a batch normalisation behind layers that have a scale a channel; it is folded into scales and biases
    /// at the end. Default: behind those whose weights have fewer than 4 bits; `true` means fewer than 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<bool>,
    /// Other formats for some layers; `activations` is the format of what the layer reads.
    #[serde(default)]
    pub layers: Vec<LayerFormat>,
    /// The most that quality may fall, in the metric's own unit: the layers that cost most are lifted, first to 8 bits, then to float,
    /// until it holds. Measured on the validation split, or else on training samples. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<Ratio>,
    /// Lets every layer's weight have its own bits, chosen under a budget: `{ widths: [8, 4, 2], size: 30 KiB }`, or `accuracy_drop`, or
    /// `energy`. Layers with an override under `layers` keep that. Default: `weights` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<MixedConfig>,
    /// What `mixed` chose, by the weight's name.
    #[serde(skip)]
    pub(crate) chosen: BTreeMap<String, Format>,
    /// What the target's kernels take.
    #[serde(skip)]
    pub(crate) profile: Option<Kernels>,
    /// Training of `mode: qat`. Default: 2 epochs at lr 1e-4 with the float model as teacher.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

/// A format for some layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerFormat {
    pub r#match: LayerPattern,
    /// Default: the stage's own. `none` leaves the layer's weight as it is.
    #[serde(default = "unset", with = "choice")]
    pub weights: Choice,
    /// Default: the stage's own.
    #[serde(default = "unset", with = "choice")]
    pub activations: Choice,
}

/// How activations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activations {
    /// Float.
    None,
    /// Quantized by the range of each batch.
    Dynamic,
    /// On grids whose ranges come from calibration.
    Static(Format),
}

impl Activations {
    /// The format of calibrated grids.
    pub(crate) fn calibrated(self) -> Option<Format> {
        match self {
            Self::Static(format) => Some(format),
            _ => None,
        }
    }
}

impl Default for Activations {
    fn default() -> Self {
        let number = Number::Integer { bits: 8, levels: Levels::Unsigned };
        Self::Static(Format { number, reach: Reach::Tensor })
    }
}

impl FromStr for Activations {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "dynamic" => Ok(Self::Dynamic),
            text => text.parse().map(Self::Static),
        }
    }
}

impl Serialize for Activations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Dynamic => serializer.serialize_str("dynamic"),
            Self::Static(format) => format.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Activations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a format such as uint8, or none, or dynamic")
    }
}

fn unset() -> Choice {
    Choice::Default
}

/// An override: the stage's own format, none at all, or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Default,
    None,
    Format(Format),
}

/// How the range of an activation is chosen. All take one pass over the samples, in memory that does not grow with their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// All that was seen.
    MinMax,
    /// The extremes of each sample, averaged; the latest five hundred count most (Jacob et al., 2018).
    MovingAverage,
    /// All but the outermost 0.01 % on each side.
    Percentile,
    /// The range that keeps most of the distribution, by Kullback-Leibler divergence (Migacz, 2017).
    Entropy,
    /// The range of least squared error (Banner et al., 2019).
    #[default]
    Mse,
}

/// How scale moves between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Weights of neighbouring layers become equally large (Nagel et al., 2019).
    Equalize,
    /// Outliers of activations move into weights (SmoothQuant; Xiao et al., 2023).
    Smooth,
    /// Weights that large activations multiply are enlarged (AWQ; Lin et al., 2024).
    Awq,
}

impl Scaling {
    /// The method's usual name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Equalize => "equalization",
            Self::Smooth => "SmoothQuant",
            Self::Awq => "AWQ",
        }
    }
}

/// How weights are rounded to their grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each to the nearest level.
    Nearest,
    /// Column by column, later ones making up for the errors of earlier ones, in the order of how much they matter (Frantar et al.,
    /// 2023). For weights that are one matrix; others are rounded to nearest.
    Gptq,
    /// Up or down is trained, layer by layer, so that each layer's output changes least (Nagel et al., 2020).
    Learned,
}

/// What training does with scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    #[default]
    Learned,
    Fixed,
    MovingAverage,
}

/// When quantization happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// After training.
    #[default]
    Ptq,
    /// During training.
    Qat,
}

/// A number format as text: `int8`, `uint4`, `ternary/channel`, `int4/group:128`, `fp16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub number: Number,
    pub reach: Reach,
}

/// How one number is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Integer { bits: u8, levels: Levels },
    Half(Half),
}

/// Over what one scale reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Tensor,
    Channel,
    Group(usize),
}

impl Format {
    /// The width of a number.
    pub fn bits(self) -> u8 {
        match self.number {
            Number::Integer { bits, .. } => bits,
            Number::Half(_) => 16,
        }
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fail =
            || format!("`{text}` is not a format: write int8/channel, int4/group:128, uint8, ternary, binary, fp16, bf16 or so");
        let (kind, reach) = text.split_once('/').unwrap_or((text, "tensor"));
        let reach = match (reach, reach.strip_prefix("group:")) {
            ("channel", _) => Reach::Channel,
            ("tensor", _) => Reach::Tensor,
            (_, Some(size)) => Reach::Group(size.parse().ok().filter(|&s| s > 0).ok_or_else(fail)?),
            _ => return Err(fail()),
        };
        let width = |bits: &str| bits.parse::<u8>().ok().filter(|b| (2..=8).contains(b)).ok_or_else(fail);
        let number = match kind {
            "symmetric8" => Number::Integer { bits: 8, levels: Levels::Symmetric },
            "ternary" => Number::Integer { bits: 2, levels: Levels::Symmetric },
            "binary" => Number::Integer { bits: 1, levels: Levels::Binary },
            "fp16" => Number::Half(Half::Float16),
            "bf16" => Number::Half(Half::Bfloat16),
            _ => match (kind.strip_prefix("uint"), kind.strip_prefix("int")) {
                (Some(bits), _) => Number::Integer { bits: width(bits)?, levels: Levels::Unsigned },
                (_, Some(bits)) => Number::Integer { bits: width(bits)?, levels: Levels::Signed },
                _ => return Err(fail()),
            },
        };
        match (number, reach) {
            (Number::Half(_), Reach::Channel | Reach::Group(_)) => Err(format!("`{text}`: {kind} has no scale; write {kind}")),
            _ => Ok(Self { number, reach }),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            Number::Half(Half::Float16) => write!(f, "fp16")?,
            Number::Half(Half::Bfloat16) => write!(f, "bf16")?,
            Number::Integer { levels: Levels::Binary, .. } => write!(f, "binary")?,
            Number::Integer { levels: Levels::Symmetric, bits: 2 } => write!(f, "ternary")?,
            Number::Integer { levels: Levels::Symmetric, bits } => write!(f, "symmetric{bits}")?,
            Number::Integer { levels: Levels::Unsigned, bits } => write!(f, "uint{bits}")?,
            Number::Integer { levels: Levels::Signed, bits } => write!(f, "int{bits}")?,
        }
        match self.reach {
            Reach::Tensor => Ok(()),
            Reach::Channel => write!(f, "/channel"),
            Reach::Group(size) => write!(f, "/group:{size}"),
        }
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a format such as int8/channel")
    }
}

impl FromStr for Choice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "default" => Ok(Self::Default),
            text => text.parse().map(Self::Format),
        }
    }
}

mod choice {
    use super::*;

    pub fn serialize<S: Serializer>(value: &Choice, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Choice::Format(format) => format.serialize(serializer),
            Choice::None => serializer.serialize_str("none"),
            Choice::Default => serializer.serialize_str("default"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Choice, D::Error> {
        sinter_model::from_text::<Choice, D>(deserializer, "a format such as uint8, or none")
    }
}

pub(crate) fn int8_channel() -> Format {
    Format { number: Number::Integer { bits: 8, levels: Levels::Signed }, reach: Reach::Channel }
}

/// The most weights of a layer whose rounding is learned unless the user says so.
const LEARNED: usize = 1 << 20;

fn samples() -> usize {
    512
}

fn yes() -> bool {
    true
}

impl QuantizeConfig {
    /// The format of a layer's weight: the last override that names it wins. `None` leaves it alone.
    pub(crate) fn weight_format(&self, model: &Model, layer: &Layer) -> Option<Format> {
        let found = self.layers.iter().rev().filter(|o| o.r#match.matches(model, layer)).map(|o| o.weights);
        match found.into_iter().find(|c| *c != Choice::Default) {
            Some(Choice::Format(format)) => Some(format),
            Some(Choice::None) => None,
            _ => self.own_format(model, layer),
        }
    }

    /// The format of a layer's weight where no override names it.
    fn own_format(&self, model: &Model, layer: &Layer) -> Option<Format> {
        if let Some(chosen) = self.chosen.get(&layer.weight) {
            return Some(*chosen);
        }
        let kind = model.graph.nodes[layer.node].kind();
        let format = self.weights();
        match &self.profile {
            Some(profile) if !profile.runs(kind) => None,
            Some(profile) if self.weights.is_none() && profile.per_tensor.iter().any(|k| k == kind) => {
                Some(Format { reach: Reach::Tensor, ..format })
            }
            _ => Some(format),
        }
    }

    /// The format of weights: the user's, or the target's, or the usual one.
    pub(crate) fn weights(&self) -> Format {
        self.weights.or_else(|| Some(self.profile.as_ref()?.weights)).unwrap_or_else(int8_channel)
    }

    /// The format of activations, likewise.
    pub(crate) fn activations(&self) -> Activations {
        self.activations.or_else(|| Some(self.profile.as_ref()?.activations)).unwrap_or_default()
    }

    /// Whether an override says what the format of a layer's weight is.
    pub(crate) fn names(&self, model: &Model, layer: &Layer) -> bool {
        self.layers.iter().any(|o| o.weights != Choice::Default && o.r#match.matches(model, layer))
    }

    /// The format of what a layer reads.
    pub(crate) fn input_format(&self, model: &Model, layer: &Layer) -> Option<Format> {
        let found = self.layers.iter().rev().filter(|o| o.r#match.matches(model, layer)).map(|o| o.activations);
        match found.into_iter().find(|c| *c != Choice::Default) {
            Some(Choice::Format(format)) => Some(format),
            Some(Choice::None) => None,
            _ => self.activations().calibrated(),
        }
    }

    /// Whether a layer reads values quantized by their own range.
    pub(crate) fn input_is_dynamic(&self, model: &Model, layer: &Layer) -> bool {
        let found = self.layers.iter().rev().filter(|o| o.r#match.matches(model, layer)).map(|o| o.activations);
        self.activations() == Activations::Dynamic && found.into_iter().find(|c| *c != Choice::Default) != Some(Choice::None)
    }

    /// How the weights of a layer are rounded. Weights that keep zeros or shared values, and those of one bit or without a grid, have no
    /// choice.
    pub(crate) fn rounding(&self, model: &Model, layer: &Layer) -> Rounding {
        let bits = self.weight_format(model, layer).map_or(32, Format::bits);
        let Some(weight) = model.weights.get(&layer.weight) else { return Rounding::Nearest };
        if weight.codebook().is_some() || weight.mask().is_some() || !(2..=8).contains(&bits) {
            return Rounding::Nearest;
        }
        if matches!(self.weight_format(model, layer).map(|f| f.number), Some(Number::Integer { levels: Levels::Unsigned, .. })) {
            return Rounding::Nearest;
        }
        // The samples of a recurrent layer do not lie along the first axis, and its output tells of all steps at once.
        if matches!(model.graph.nodes[layer.node].kind(), "GRU" | "LSTM" | "RNN") {
            return Rounding::Nearest;
        }
        match self.mode {
            Mode::Ptq if bits < 8 && weight.numel() <= LEARNED => self.rounding.unwrap_or(Rounding::Learned),
            Mode::Ptq if bits < 8 => self.rounding.unwrap_or(Rounding::Gptq),
            _ => self.rounding.unwrap_or(Rounding::Nearest),
        }
    }

    pub(crate) fn check_config(&self, model: &Model) -> Result<(), StageError> {
        check_weights(self.weights(), self.activations(), "weights")?;
        self.activations().calibrated().map_or(Ok(()), |a| check_activations(a, "activations"))?;
        for (i, own) in self.layers.iter().enumerate() {
            covers(model, &own.r#match, &format!("layers.{i}.match"))?;
            if let Choice::Format(format) = own.weights {
                check_weights(format, self.activations(), &format!("layers.{i}.weights"))?;
            }
            match (own.activations, self.activations().calibrated()) {
                (Choice::Format(format), Some(_)) => check_activations(format, &format!("layers.{i}.activations"))?,
                (Choice::Format(_), None) => {
                    let reason =
                        "a layer alone can't have a format of its own where the stage has `activations: none` or `dynamic`";
                    return Err(StageError::config(&format!("layers.{i}.activations"), reason));
                }
                _ => {}
            }
        }
        if let Some(mixed) = &self.mixed {
            mixed.check()?;
            if !matches!(self.weights().number, Number::Integer { bits: 2.., levels: Levels::Signed }) {
                let reason = format!("`mixed` chooses the bits of integers: `weights` is {}", self.weights());
                return Err(StageError::config("weights", reason));
            }
        }
        if self.samples == 0 {
            return Err(StageError::config("samples", "calibration needs at least one sample"));
        }
        if self.activations() == Activations::None && self.scaling.as_ref().is_some_and(|s| s.contains(&Scaling::Smooth)) {
            let reason = "`smooth` makes activations easier to quantize, and the stage has `activations: none`: write awq";
            return Err(StageError::config("scaling", reason));
        }
        if self.mode == Mode::Ptq && self.finetune.is_some() {
            return Err(StageError::Config {
                key: "finetune".into(),
                reason: "`finetune` goes with `mode: qat`".into(),
                help: Some("write `mode: qat`, or drop `finetune`".into()),
            });
        }
        if self.mode == Mode::Ptq && self.batch_norm == Some(true) {
            let reason = "normalisations are of use while a model trains: write `mode: qat`, or drop `batch_norm`";
            return Err(StageError::config("batch_norm", reason));
        }
        if self.batch_norm == Some(true) && self.finetune.as_ref().is_some_and(|f| f.batch_size == 1) {
            let reason = "one sample has no variance: normalisations need batches of at least two";
            return Err(StageError::config("finetune.batch_size", reason));
        }
        if self.mode == Mode::Qat && self.activations() == Activations::Dynamic {
            let reason = "ranges that follow each batch can't be trained: write a static format such as uint8, or none";
            return Err(StageError::config("activations", reason));
        }
        if self.mode == Mode::Qat && self.rounding.is_some() {
            let reason = "`rounding` goes with `mode: ptq`: training rounds to nearest";
            return Err(StageError::config("rounding", reason));
        }
        if model.graph.nodes.iter().any(|n| matches!(n.kind(), "QuantizeLinear" | "DequantizeLinear")) {
            return Err(StageError::config(
                "",
                "the model is already quantized: it holds QuantizeLinear or DequantizeLinear nodes",
            ));
        }
        let layers = model.layers();
        if layers.is_empty() {
            return Err(StageError::config("", "the model has no layer with weights to quantize"));
        }
        let binary = |l: &&Layer| matches!(self.weight_format(model, l), Some(f) if f.bits() == 1);
        let masked = |l: &&Layer| model.weights.get(&l.weight).is_some_and(|w| w.mask().is_some());
        if let Some(layer) = layers.iter().filter(binary).find(masked) {
            let reason = format!("binary weights are never zero, and layer `{}` has pruned ones: write ternary", layer.name);
            return Err(StageError::config("weights", reason));
        }
        Ok(())
    }
}

/// Integer kernels want weights with zero point 0.
fn check_weights(format: Format, activations: Activations, key: &str) -> Result<(), StageError> {
    match format.number {
        Number::Integer { levels: Levels::Unsigned, bits } if activations != Activations::None => {
            let reason = format!(
                "{format} weights have zero points, which integer kernels don't take: write int{bits}, or `activations: none`"
            );
            Err(StageError::config(key, reason))
        }
        _ => Ok(()),
    }
}

fn check_activations(format: Format, key: &str) -> Result<(), StageError> {
    if format.reach != Reach::Tensor {
        return Err(StageError::config(key, "activations take one scale a tensor: write uint8 or int8"));
    }
    match format.number {
        Number::Integer { levels: Levels::Signed | Levels::Unsigned, .. } => Ok(()),
        Number::Integer { levels: Levels::Symmetric, bits: 3.. } => Ok(()),
        _ => Err(StageError::config(key, format!("activations take integers: write uint8 or int8, not {format}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_read_and_write() {
        for text in [
            "int8/channel",
            "uint8",
            "int4",
            "int2/channel",
            "ternary/channel",
            "binary",
            "int4/group:128",
            "fp16",
            "bf16",
            "uint4/group:32",
            "symmetric8",
        ] {
            assert_eq!(text.parse::<Format>().unwrap().to_string(), text);
        }
        for text in ["int9", "float8", "int8/row", "int", "8", "int4/group:0", "int4/group:", "fp16/channel"] {
            assert!(text.parse::<Format>().is_err(), "{text}");
        }
    }
}
