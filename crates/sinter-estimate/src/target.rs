//! A target as YAML describes it.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Bytes, NmPattern};

use crate::board::Board;

/// Hardware that a model is meant for. Every figure names its source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name in reports.
    pub name: String,
    /// What it is, for the report.
    pub description: String,
    /// Memory for weights. Default: unbounded.
    #[serde(default)]
    pub flash: Option<Bytes>,
    /// Memory for activations. Default: unbounded.
    #[serde(default)]
    pub ram: Option<Bytes>,
    /// Its processor, for which C source is compiled and whose code sizes are known. Default: C source is compiled for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<Core>,
    /// Energy of single operations, for the floor below which no device goes.
    pub floor: FloorEnergy,
    /// N:M patterns whose zeros its kernels skip: `["2:4"]`. Default: none; zeros then save no operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse: Vec<String>,
    /// Published measurements of boards of this kind. Default: none known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<Board>,
    /// How Arm's Vela compiles for it. Default: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vela: Option<Vela>,
    /// What its integer kernels take. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Profile>,
    /// What is done with the generated C of models that came from outside, to measure it: `compile` for its size, `run` for its test
    /// vector, on this machine. Default: nothing, unless `sinter run --measure` asks. Built-in models are always measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measure: Vec<Measure>,
}

/// A processor of a microcontroller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Core {
    /// Arm Cortex-M0+, and M0: no division, no 64-bit products.
    CortexM0Plus,
    /// Arm Cortex-M3.
    CortexM3,
    /// Arm Cortex-M4.
    CortexM4,
    /// Arm Cortex-M7.
    CortexM7,
    /// Arm Cortex-M33.
    CortexM33,
    /// Arm Cortex-M55.
    CortexM55,
}

impl Core {
    /// As GCC's `-mcpu` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CortexM0Plus => "cortex-m0plus",
            Self::CortexM3 => "cortex-m3",
            Self::CortexM4 => "cortex-m4",
            Self::CortexM7 => "cortex-m7",
            Self::CortexM33 => "cortex-m33",
            Self::CortexM55 => "cortex-m55",
        }
    }
}

/// A measurement that executes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Compiles the generated C.
    Compile,
    /// Compiles its test for this machine and runs it.
    Run,
}

/// An instruction that multiplies integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Instruction {
    /// x86's dot products of eight bits into 32 (AVX-512 VNNI, AVX-VNNI). Without them unsigned times signed bytes are added in pairs of 16 bits,
    /// which saturate (VPMADDUBSW).
    Vnni,
}

impl Instruction {
    /// Whether this machine has it.
    pub fn is_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Vnni => false,
        }
    }
}

/// What the integer kernels of a target take: the defaults of `quantize`, and what it leaves in float.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Format of weights, as in `quantize`: `int8/channel`.
    pub weights: String,
    /// The instruction that its kernels are assumed to multiply with. Where it is absent other kernels run, with less room for sums: `quantize` tells
    /// which layers would leave it. Default: none is assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumes: Option<Instruction>,
    /// Operators whose weights have one scale for the tensor whatever `weights` says. Default: none.
    #[serde(default)]
    pub per_tensor: Vec<String>,
    /// Format of activations: `uint8`, `int8`, or `symmetric8` for a zero point of 0.
    pub activations: String,
    /// ONNX operators that run on integers; all else stays float. Default: every one that Sinter quantizes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<String>>,
    /// Whose rules the kernels keep. Default: onnxruntime.
    #[serde(default)]
    pub rules: Rules,
    /// Where these facts stand.
    pub source: String,
}

/// What integer kernels want of the values between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// Products of integers may have float results; the model's outputs are float.
    #[default]
    OnnxRuntime,
    /// The TensorFlow Lite 8-bit quantization specification: all in integers from input to output, an average pool keeps its input's
    /// scale, and softmax, sigmoid and tanh have fixed ones.
    Tflite,
}

/// The built-in target: no hardware in particular.
pub static GENERIC: LazyLock<Target> = LazyLock::new(|| {
    let text = include_str!("../../../configs/targets/generic.yaml");
    serde_yaml::from_str(text).unwrap_or_else(|e| unreachable!("the built-in target is read by a test: {e}"))
});

/// A target whose kernels keep TensorFlow Lite's rules: what a TFLite or C export is quantized for when the pipeline's target says nothing
/// of kernels.
pub static TFLITE: LazyLock<Target> = LazyLock::new(|| {
    let text = include_str!("../../../configs/targets/cortex-m4.yaml");
    serde_yaml::from_str(text).unwrap_or_else(|e| unreachable!("the built-in target is read by a test: {e}"))
});

/// Energy of single operations, in picojoules.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloorEnergy {
    /// An 8-bit multiplication with a 32-bit addition.
    pub mac_int8_pj: f64,
    /// A float32 multiplication with an addition.
    pub mac_float32_pj: f64,
    /// Reading or writing one byte of the memory that holds weights and activations.
    pub byte_pj: f64,
    /// Where the figures stand.
    pub source: String,
}

/// What Arm's compiler for Ethos-U must know.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vela {
    /// As its `--accelerator-config` has it: `ethos-u55-128`.
    pub accelerator: String,
    /// The clock, megahertz.
    pub clock_mhz: f64,
}

impl Target {
    /// The share of a layer's products that are done: less than one where the kernels skip the zeros of its pattern.
    pub fn work(&self, pattern: Option<NmPattern>) -> f64 {
        match pattern {
            Some(p) if self.sparse.contains(&format!("{}:{}", p.n, p.m)) => p.n as f64 / p.m as f64,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_built_in_target_reads() {
        assert_eq!(super::GENERIC.name, "generic");
        assert!(super::TFLITE.quantization.is_some());
    }
}
