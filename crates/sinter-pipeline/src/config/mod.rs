//! A pipeline as YAML describes it.

mod stage;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::zoo::ZooModel;
use sinter_model::{Bytes, Joules, Ratio, Seconds};
use sinter_task::MetricChoice;

use crate::files::Paths;
pub use stage::{StageConfig, StageEntry};

/// A pipeline file. Paths are relative to it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// A pipeline file that this one stands upon, relative to it: it says only what differs. Mappings are merged key by key, stages by their name or kind (new ones
    /// come last, or where `after: NAME` or `before: NAME` says), all else is replaced; `~` takes a key or a
    /// stage away, such as the one of two alternatives that stood there. Several of a kind go by `name: 2-prune`, their place in that file. Default: none.
    // Taken in by `files`, as `vars` is: what is parsed holds neither.
    #[serde(default, skip_serializing)]
    pub extends: Option<PathBuf>,
    /// What `${NAME}` stands for in any value of the file: `60%`, or `{ env: NAME, default: 60% }` for a variable of the environment, or `~` for the one of the same
    /// name. Nothing else is taken from the environment. Within `{ }` it stands in quotes: `"${NAME}"`. Default: none.
    #[serde(default, skip_serializing)]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Names the folder of its runs: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Same seed, same machine: same result. Default: 0.
    #[serde(default)]
    pub seed: u64,
    /// Where the model comes from.
    pub model: ModelConfig,
    /// The data file.
    pub data: PathBuf,
    /// The target file. Default: no hardware in particular.
    #[serde(default)]
    pub target: Option<PathBuf>,
    /// What quality is measured by. Default: what fits the task, accuracy where there are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricChoice>,
    /// More metrics, each told with its interval beside the first, by which nothing is chosen. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricChoice>,
    /// What the result may cost; checked at the end. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// In the order in which they run; any number.
    pub stages: Vec<StageEntry>,
    /// What to leave in `artifacts/`. Default: packed and onnx.
    #[serde(default = "exports")]
    pub export: Vec<Export>,
}

/// What of a pipeline file is a path.
pub(crate) const PATHS: Paths =
    Paths { at: &["data", "target", "model.onnx", "model.huggingface"], keys: &[("teacher", "onnx:")], commands: &["run"] };

fn exports() -> Vec<Export> {
    vec![Export::Packed, Export::Onnx]
}

/// Limits on the result. Where a figure is an interval its upper end counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Of the float model's quality: `1%` is one point where the metric has a scale of its own, else one hundredth of the float model's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<Ratio>,
    /// Code and constants of the C export where it is compiled; else the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash: Option<Bytes>,
    /// Static memory of the C export where it is compiled; else the activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram: Option<Bytes>,
    /// Of one inference on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Seconds>,
    /// Of one inference on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Joules>,
}

/// Where the model comes from: exactly one of `zoo`, `onnx` and `huggingface`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A built-in architecture, freshly initialised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zoo: Option<ZooModel>,
    /// With `zoo`: the number of classes. Default: as many as the data has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<i64>,
    /// A trained model in an ONNX file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onnx: Option<PathBuf>,
    /// A trained language model in a folder as Hugging Face has it: `config.json`, safetensors, `tokenizer.json`. Its layers are named as its modules are,
    /// such as `model.layers.0.mlp.up_proj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huggingface: Option<PathBuf>,
    /// With `onnx`: whether a model that is quantized already becomes float again before anything else: its integers times their scales. What was lost stays lost;
    /// the float model is better where it can be had. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dequantize: bool,
    /// With `onnx`: lengths of free dimensions other than the batch, by name, or by place as in `ids.1`. Default: as the data has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dims: BTreeMap<String, i64>,
    /// With `onnx`: inputs that are always the same, such as a sample rate, each with its number or numbers. They are no inputs of what is written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, Numbers>,
    /// With `onnx`: inputs that are the state of the model, each with the output that is its value at the next step, as in `{ h: hn, c: cn }`. Samples are
    /// sequences `[steps, ...]` then; a state starts with zeros, or with what the data gives for the input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, String>,
}

/// A number, or several.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, as in `16000`, or a list of numbers, as in `[0.5, 1]`")]
pub enum Numbers {
    /// For every element.
    One(f64),
    /// One for each element.
    Many(Vec<f64>),
}

impl Numbers {
    /// As a list.
    pub fn list(&self) -> Vec<f64> {
        match self {
            Self::One(number) => vec![*number],
            Self::Many(numbers) => numbers.clone(),
        }
    }
}

/// An artefact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// The packed file: the fewest bytes.
    Packed,
    /// ONNX with QuantizeLinear and DequantizeLinear, as ONNX Runtime fuses them.
    Onnx,
    /// A TFLite flatbuffer for LiteRT, TensorFlow Lite Micro and Vela.
    Tflite,
    /// A folder of C99 source for a microcontroller, with the TFLite file as an array.
    C,
    /// A folder for transformers and vLLM: integers in safetensors, as the compressed-tensors library reads them. For language models.
    CompressedTensors,
    /// A GGUF file for llama.cpp. For language models.
    Gguf,
}

impl Export {
    /// Whether it is for devices, where all is in integers from input to output.
    pub(crate) fn is_for_devices(self) -> bool {
        matches!(self, Self::Tflite | Self::C)
    }

    /// Whether it is for language models alone, and needs what their folder holds.
    pub(crate) fn is_for_language(self) -> bool {
        matches!(self, Self::CompressedTensors | Self::Gguf)
    }
}
