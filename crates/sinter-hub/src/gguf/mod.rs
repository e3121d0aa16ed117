//! GGUF files, which llama.cpp opens (version 3 of the format).
//!
//! A file is a list of keys, a list of tensors, and their bytes. Weights on quantizers become blocks of 32 whose values are those of the quantizer, one by
//! one; where a format has no such block it is refused while the pipeline is read.

mod blocks;
mod tokens;

use std::io::Write;
use std::path::Path;

use serde_json::Value;
use sinter_model::{Model, Role, Weight, to_f32s, write_whole_with};

use crate::config::Config;
use crate::decoder::{EMBEDDINGS, HEAD};
use crate::error::HubError;
use crate::rope::Scaling;
use crate::stored::{FloatType, Stored, complete, quantized, same};
use blocks::Block;
use tokens::Tokens;

const FORMAT: &str = "GGUF";
/// Where tensors begin: multiples of this.
const ALIGNMENT: usize = 32;

/// A value of a key.
pub(crate) enum Entry {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

impl Entry {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
        match self {
            Self::U32(v) => {
                kind(out, 4);
                out.extend(v.to_le_bytes());
            }
            Self::F32(v) => {
                kind(out, 6);
                out.extend(v.to_le_bytes());
            }
            Self::Bool(v) => {
                kind(out, 7);
                out.push(u8::from(*v));
            }
            Self::Text(v) => {
                kind(out, 8);
                text(out, v);
            }
            Self::Texts(all) => {
                kind(out, 9);
                kind(out, 8);
                out.extend((all.len() as u64).to_le_bytes());
                all.iter().for_each(|v| text(out, v));
            }
            Self::I32s(all) => {
                kind(out, 9);
                kind(out, 5);
                out.extend((all.len() as u64).to_le_bytes());
                out.extend(all.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// One tensor: its name, its lengths with the fastest axis first, the number of its type, and its bytes.
struct Tensor {
    name: String,
    lengths: Vec<u64>,
    kind: u32,
    bytes: Vec<u8>,
}

/// Why a model that came from `source` can't be written so: a layer that no block holds exactly, a tensor that config.json does not tell of, a tokenizer that llama.cpp
/// does not know.
pub fn fits(model: &Model, source: &Path) -> Result<(), HubError> {
    known(model, source).map(drop)
}

/// What config.json and the tokenizer of `source` say, where the model can be written with it.
fn known(model: &Model, source: &Path) -> Result<(Config, Tokens), HubError> {
    let config = Config::read(&source.join("config.json"), 1)?;
    complete(model, &config)?;
    let tokens = Tokens::read(source, config.vocabulary as usize)?;
    for (layer, params) in quantized(model)? {
        let columns = model.weights.get(&layer.weight).and_then(|w| w.size().get(1).copied()).unwrap_or(0);
        if let Err(help) = Block::of(&params, columns as usize) {
            return Err(HubError::Encoding { layer: layer.name, encoding: params.describe(), format: FORMAT, help });
        }
    }
    Ok((config, tokens))
}

/// Writes the file: weights, what config.json of `source` says, its tokenizer and its chat template. Each weight's bytes are decoded as llama.cpp does and compared, value
/// by value. Returns what there is to say of single weights.
pub fn write(model: &Model, source: &Path, out: &Path) -> Result<Vec<String>, HubError> {
    let (config, tokens) = known(model, source)?;
    let (mut tensors, mut notes) = (Vec::new(), Vec::new());
    for (name, weight) in model.weights.iter().filter(|(_, w)| w.role == Role::Parameter) {
        tensors.push(tensor(name, weight, &config, &mut notes)?);
    }
    if let Some(factors) = slowing(&config) {
        let (lengths, bytes) = (vec![factors.len() as u64], FloatType::F32.bytes(&factors));
        tensors.push(Tensor { name: "rope_freqs.weight".into(), lengths, kind: 0, bytes });
    }
    let mut keys = architecture(model, &config);
    keys.push(("general.file_type".into(), Entry::U32(commonest(&tensors))));
    keys.extend(tokens.keys());
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((keys.len() as u64).to_le_bytes());
    for (key, entry) in &keys {
        text(&mut head, key);
        entry.write(&mut head);
    }
    let padded = |n: usize| n.next_multiple_of(ALIGNMENT);
    let mut offset = 0;
    for tensor in &tensors {
        text(&mut head, &tensor.name);
        head.extend((tensor.lengths.len() as u32).to_le_bytes());
        tensor.lengths.iter().for_each(|n| head.extend(n.to_le_bytes()));
        head.extend(tensor.kind.to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += padded(tensor.bytes.len());
    }
    head.resize(padded(head.len()), 0);
    write_whole_with(out, |file| {
        file.write_all(&head)?;
        for tensor in &tensors {
            file.write_all(&tensor.bytes)?;
            file.write_all(&vec![0; padded(tensor.bytes.len()) - tensor.bytes.len()])?;
        }
        Ok(())
    })?;
    Ok(notes)
}

/// A weight under llama.cpp's name, in its order of rows.
fn tensor(name: &str, weight: &Weight, config: &Config, notes: &mut Vec<String>) -> Result<Tensor, HubError> {
    let size = weight.size();
    let columns = size.last().copied().unwrap_or(1) as usize;
    let rows = rows(name, config, size[0] as usize);
    let lengths = size.iter().rev().map(|&n| n as u64).collect();
    let vector = size.len() < 2;
    let width = if vector { 1 } else { columns };
    let in_order =
        |values: &[f32]| -> Vec<f32> { rows.iter().flat_map(|&r| values[r * width..(r + 1) * width].to_vec()).collect() };
    let back = |values: &[f32]| -> Vec<f32> {
        let mut out = vec![0f32; values.len()];
        rows.iter().zip(values.chunks(width)).for_each(|(&r, row)| out[r * width..(r + 1) * width].copy_from_slice(row));
        out
    };
    let floats = |values: Vec<f32>| {
        // Vectors stay in 32 bits: llama.cpp computes with them so.
        let float = if vector { FloatType::F32 } else { FloatType::holding(std::iter::once(&values[..])) };
        let bytes = float.bytes(&in_order(&values));
        let read = float.values(&bytes);
        (float_kind(float), bytes, read)
    };
    let (kind, bytes, read) = match Stored::of(name, weight)? {
        Stored::Floats(values) => floats(values),
        Stored::Integers { integers, params } => {
            let block = Block::of(&params, columns).map_err(|help| HubError::tensor(name, help))?;
            match block.encode(&integers, &params, columns, &rows) {
                Ok(bytes) => {
                    let read = block.decode(&bytes);
                    (block.kind(), bytes, read)
                }
                Err(reason) => {
                    notes.push(format!(
                        "`{name}` is stored as floats in the GGUF file, so that its values stay what they are: {reason}"
                    ));
                    floats(to_f32s(&weight.effective()?)?)
                }
            }
        }
    };
    same(name, &back(&read), weight)?;
    Ok(Tensor { name: renamed(name)?, lengths, kind, bytes })
}

fn float_kind(float: FloatType) -> u32 {
    match float {
        FloatType::F32 => 0,
        FloatType::F16 => 1,
        FloatType::Bf16 => 30,
    }
}

/// In which order rows stand: where llama.cpp rotates neighbours and the folder halves, those of each head are interleaved.
fn rows(name: &str, config: &Config, count: usize) -> Vec<usize> {
    let rotated = name.contains(".self_attn.q_proj.") || name.contains(".self_attn.k_proj.");
    if !(rotated && config.family.gguf == "llama") {
        return (0..count).collect();
    }
    let head = config.head as usize;
    let within = |at: usize| at % 2 * (head / 2) + at / 2;
    (0..count).map(|row| row / head * head + within(row % head)).collect()
}

/// llama.cpp's name of a tensor.
fn renamed(name: &str) -> Result<String, HubError> {
    match name {
        EMBEDDINGS => return Ok("token_embd.weight".into()),
        HEAD => return Ok("output.weight".into()),
        "model.norm.weight" => return Ok("output_norm.weight".into()),
        _ => {}
    }
    let unknown = || HubError::tensor(name, "GGUF has no name for it");
    let (layer, part) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
    let (module, end) = part.rsplit_once('.').ok_or_else(unknown)?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return Err(unknown()),
    };
    Ok(format!("blk.{layer}.{module}.{end}"))
}

/// By what llama.cpp divides the frequencies of rotary positions, where they are scaled each by itself.
fn slowing(config: &Config) -> Option<Vec<f32>> {
    let Scaling::Llama3 { .. } = config.rope.scaling else { return None };
    let plain = crate::rope::Rope { scaling: Scaling::None, ..config.rope.clone() }.frequencies(config.head);
    Some(plain.iter().zip(config.rope.frequencies(config.head)).map(|(plain, slow)| (plain / slow) as f32).collect())
}

/// What config.json says, as keys.
fn architecture(model: &Model, config: &Config) -> Vec<(String, Entry)> {
    let kind = config.family.gguf;
    let number = |key: &str, n: i64| (format!("{kind}.{key}"), Entry::U32(n as u32));
    let mut keys = vec![
        ("general.architecture".to_string(), Entry::Text(kind.into())),
        ("general.type".to_string(), Entry::Text("model".into())),
        ("general.name".to_string(), Entry::Text(model.name.clone())),
        ("general.quantization_version".to_string(), Entry::U32(2)),
        number("block_count", config.layers),
        number("context_length", config.positions),
        number("embedding_length", config.hidden),
        number("feed_forward_length", config.inner),
        number("attention.head_count", config.heads),
        number("attention.head_count_kv", config.kv_heads),
        number("attention.key_length", config.head),
        number("attention.value_length", config.head),
        number("rope.dimension_count", config.head),
        number("vocab_size", config.vocabulary),
        (format!("{kind}.attention.layer_norm_rms_epsilon"), Entry::F32(config.epsilon as f32)),
        (format!("{kind}.rope.freq_base"), Entry::F32(config.rope.theta as f32)),
    ];
    if let Scaling::Linear { factor } = config.rope.scaling {
        keys.push((format!("{kind}.rope.scaling.type"), Entry::Text("linear".into())));
        keys.push((format!("{kind}.rope.scaling.factor"), Entry::F32(factor as f32)));
    }
    keys
}

/// The number that llama.cpp has for a file whose matrices are mostly of one type.
fn commonest(tensors: &[Tensor]) -> u32 {
    let matrices = || tensors.iter().filter(|t| t.lengths.len() == 2);
    let bytes = |kind: u32| matrices().filter(|t| t.kind == kind).map(|t| t.lengths.iter().product::<u64>()).sum::<u64>();
    let kind = matrices().map(|t| t.kind).max_by_key(|&kind| bytes(kind)).unwrap_or(0);
    match kind {
        0 => 0,
        1 => 1,
        blocks::Q4_0 => 2,
        blocks::Q8_0 => 7,
        blocks::Q5_0 => 8,
        _ => 32,
    }
}

/// A text of a JSON file, where it has one under a key, plain or as `content`.
pub(crate) fn content(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(String::from)
}
