//! The configuration of `quantize`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Ratio;
use sinter_train::{FitConfig, LayerPattern};

use crate::calibrations::Calibration;
use crate::formats::{Activations, Choice, Format, choice};
use crate::mixed::config::MixedConfig;
use crate::rounding::Rounding;

/// Quantizes weights and activations.
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizeConfig {
    /// A number format and, after a slash, how many weights share a scale: `int8` to `int2`, `ternary`, `binary`, `fp16`, `bf16`, or for
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
    /// equalize where a tensor shares one scale, smooth where a normalisation feeds layers that read integers, awq for weights
    /// alone that round to nearest below 8 bits; the last two only where they lessen the error on calibration samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Vec<Scaling>>,
    /// How weights are rounded. Default: nearest from 8 bits on, below that learned, or gptq in models of more than a million weights
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
    /// `ptq` quantizes and stops; `qat` trains with quantization simulated. Default: ptq.
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
    /// The format of look-up tables, such as embeddings, whose rows a model picks by index; it stays theirs whatever the activations are. `channel` means a
    /// scale a row. Default: int8/channel where weights are integers, the weights' own format where they are not.
    #[serde(default = "unset", skip_serializing_if = "is_default", with = "choice")]
    #[schemars(with = "Choice")]
    pub embeddings: Choice,
    /// Leaves in float what integers make slower. ONNX Runtime times every operator on this machine and one thread, in integers and in float; the placement
    /// that comes out fastest is kept. Weights keep their format in either case. The choice depends on the machine, so it is made once and stays with the
    /// result in the cache. For calibrated activations. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub latency: bool,
    /// The most that quality may fall: points of a share such as accuracy, else a share of the float model's error. The layers that
    /// cost most are lifted, first to 8 bits, then to float, until it holds. Measured on the validation split, or else on training samples. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<Ratio>,
    /// Lets every layer's weight have its own bits, chosen under a budget: `{ widths: [8, 4, 2], size: 30 KiB }`, or `accuracy_drop`, or
    /// `energy`. Layers with an override under `layers` keep that. Default: `weights` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<MixedConfig>,
    /// Training of `mode: qat`. Default: 2 epochs at lr 1e-4 with the float model as teacher.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

/// A format for some layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerFormat {
    /// Which layers.
    pub r#match: LayerPattern,
    /// Default: the stage's own. `none` leaves the layer's weight as it is.
    #[serde(default = "unset", with = "choice")]
    #[schemars(with = "Choice")]
    pub weights: Choice,
    /// Default: the stage's own.
    #[serde(default = "unset", with = "choice")]
    #[schemars(with = "Choice")]
    pub activations: Choice,
}

fn unset() -> Choice {
    Choice::Default
}

fn is_default(choice: &Choice) -> bool {
    *choice == Choice::Default
}

fn samples() -> usize {
    512
}

fn yes() -> bool {
    true
}

/// How scale moves between layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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

/// What training does with scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    /// Trains them too (Esser et al., 2020).
    #[default]
    Learned,
    /// Keeps the calibrated ones.
    Fixed,
    /// Lets those of activations follow their extremes (Jacob et al., 2018).
    MovingAverage,
}

/// When quantization happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// After training.
    #[default]
    Ptq,
    /// During training.
    Qat,
}
