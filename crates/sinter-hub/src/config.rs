//! config.json: which architecture, and how large.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::HubError;
use crate::rope::Rope;

/// What decoders of this family differ in; all else config.json says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    /// As `architectures` has it.
    pub architecture: &'static str,
    /// The name that GGUF files have for it.
    pub gguf: &'static str,
    /// Whether queries, keys and values have biases; `None` where `attention_bias` says so, and then the output has one too.
    pub biases: Option<bool>,
    /// Whether queries and keys are normalised head by head.
    pub head_norms: bool,
}

/// Decoders with rotary positions, root-mean-square norms and gated feed-forward layers.
pub(crate) const FAMILIES: [Family; 4] = [
    Family { architecture: "LlamaForCausalLM", gguf: "llama", biases: None, head_norms: false },
    Family { architecture: "MistralForCausalLM", gguf: "llama", biases: Some(false), head_norms: false },
    Family { architecture: "Qwen2ForCausalLM", gguf: "qwen2", biases: Some(true), head_norms: false },
    Family { architecture: "Qwen3ForCausalLM", gguf: "qwen3", biases: None, head_norms: true },
];

/// What transformers takes where config.json does not say.
const MISTRAL_WINDOW: i64 = 4096;

/// How a decoder is built.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub family: Family,
    pub hidden: i64,
    pub inner: i64,
    pub layers: i64,
    pub heads: i64,
    /// Heads of keys and values, each shared by as many queries.
    pub kv_heads: i64,
    pub head: i64,
    pub vocabulary: i64,
    pub epsilon: f64,
    pub rope: Rope,
    /// Whether the last layer reads the embeddings.
    pub tied: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    /// The most tokens that it was made for.
    pub positions: i64,
}

#[derive(Deserialize)]
struct Raw {
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    vocab_size: i64,
    #[serde(default = "epsilon")]
    rms_norm_eps: f64,
    #[serde(default = "activation")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default = "positions")]
    max_position_embeddings: i64,
    #[serde(default)]
    use_sliding_window: bool,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    quantization_config: Option<Value>,
}

fn epsilon() -> f64 {
    1e-6
}

fn activation() -> String {
    "silu".into()
}

fn positions() -> i64 {
    2048
}

impl Config {
    /// Reads and checks it. `tokens` is the length that the model will be given.
    pub fn read(path: &Path, tokens: i64) -> Result<Self, HubError> {
        let text = std::fs::read_to_string(path).map_err(HubError::read(path))?;
        let wrong = |reason: String| HubError::format(path, reason);
        let value: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let named = value.pointer("/architectures/0").and_then(Value::as_str).unwrap_or("none named").to_string();
        let family = FAMILIES.iter().find(|f| f.architecture == named).copied().ok_or_else(|| HubError::Architecture {
            path: path.to_path_buf(),
            architecture: named,
            known: FAMILIES.map(|f| f.architecture).join(", "),
        })?;
        let window = value.get("sliding_window").map(Value::as_i64);
        let raw: Raw = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
        if raw.quantization_config.is_some() {
            return Err(wrong(
                "the model is quantized already (`quantization_config`): take the float model that it was made of".into(),
            ));
        }
        let (heads, kv_heads) = (raw.num_attention_heads, raw.num_key_value_heads.unwrap_or(raw.num_attention_heads));
        let sizes = [
            ("hidden_size", raw.hidden_size),
            ("intermediate_size", raw.intermediate_size),
            ("num_hidden_layers", raw.num_hidden_layers),
            ("num_attention_heads", heads),
            ("num_key_value_heads", kv_heads),
            ("vocab_size", raw.vocab_size),
            ("head_dim", raw.head_dim.unwrap_or(1)),
        ];
        if let Some((name, n)) = sizes.into_iter().find(|(_, n)| !(1..=1 << 24).contains(n)) {
            return Err(wrong(format!("`{name}` is {n}, which is no size")));
        }
        if heads % kv_heads != 0 {
            return Err(wrong(format!("{heads} heads can't share {kv_heads} of keys and values evenly")));
        }
        if raw.head_dim.is_none() && raw.hidden_size % heads != 0 {
            return Err(wrong(format!("`hidden_size` {} can't be parted into {heads} heads", raw.hidden_size)));
        }
        let head = raw.head_dim.unwrap_or(raw.hidden_size / heads);
        if head % 2 != 0 {
            return Err(wrong(format!("a head of {head} elements can't be rotated: rotary positions turn pairs")));
        }
        if raw.hidden_act != "silu" {
            return Err(wrong(format!("`hidden_act` is {}: silu alone is known for this architecture", raw.hidden_act)));
        }
        // Mistral has a window unless it says that there is none; others where they ask for it.
        let window = match family.architecture {
            "MistralForCausalLM" => window.unwrap_or(Some(MISTRAL_WINDOW)),
            _ => window.flatten().filter(|_| raw.use_sliding_window),
        };
        if let Some(window) = window.filter(|&w| w < tokens) {
            return Err(wrong(format!(
                "its attention sees {window} tokens, and windows of {tokens} are asked for: give `tokens: {window}` or fewer"
            )));
        }
        if tokens > raw.max_position_embeddings {
            let most = raw.max_position_embeddings;
            return Err(wrong(format!(
                "it takes at most {most} tokens, and windows of {tokens} are asked for: give `tokens: {most}` or fewer"
            )));
        }
        let rope = Rope::read(raw.rope_theta, raw.rope_scaling.as_ref().or(raw.rope_parameters.as_ref())).map_err(wrong)?;
        Ok(Self {
            family,
            hidden: raw.hidden_size,
            inner: raw.intermediate_size,
            layers: raw.num_hidden_layers,
            heads,
            kv_heads,
            head,
            vocabulary: raw.vocab_size,
            epsilon: raw.rms_norm_eps,
            rope,
            tied: raw.tie_word_embeddings,
            attention_bias: raw.attention_bias,
            mlp_bias: raw.mlp_bias,
            positions: raw.max_position_embeddings,
        })
    }

    /// Whether queries, keys and values have biases, and whether the output of the attention has.
    pub fn attention_biases(&self) -> (bool, bool) {
        match self.family.biases {
            Some(biased) => (biased, false),
            None => (self.attention_bias, self.attention_bias),
        }
    }
}
