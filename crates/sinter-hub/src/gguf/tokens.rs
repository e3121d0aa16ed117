//! The tokenizer of a folder as keys of a GGUF file: byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::{Entry, content};
use crate::TOKENIZER;
use crate::error::HubError;

/// llama.cpp's kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER: i32 = 4;
const UNUSED: i32 = 5;

/// Where Llama 3 and Qwen 2 cut.
const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a file says of tokens.
pub(super) struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<String>,
    /// llama.cpp's name for the way in which text is cut before merging.
    cut: &'static str,
    /// Special tokens: the key, and the number.
    special: Vec<(&'static str, u32)>,
    begins: bool,
    template: Option<String>,
}

impl Tokens {
    /// Reads tokenizer.json and what lies beside it, for a model of so many tokens.
    pub fn read(folder: &Path, count: usize) -> Result<Self, HubError> {
        let path = folder.join(TOKENIZER);
        let wrong = |reason: &str| HubError::format(&path, reason);
        let tokenizer = json(&path)?.ok_or_else(|| wrong("it is missing, and llama.cpp needs a tokenizer"))?;
        let model = &tokenizer["model"];
        let bytes = tokenizer.pointer("/decoder/type").and_then(Value::as_str) == Some("ByteLevel");
        if model["type"].as_str() != Some("BPE") || !bytes {
            return Err(wrong("only byte-level BPE is written to GGUF; leave `gguf` out of `export`"));
        }
        let vocabulary = model["vocab"].as_object().ok_or_else(|| wrong("it has no vocabulary"))?;
        let mut known: BTreeMap<usize, (String, i32)> = BTreeMap::new();
        for (text, id) in vocabulary {
            known.insert(id.as_u64().ok_or_else(|| wrong("a token has no number"))? as usize, (text.clone(), NORMAL));
        }
        for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let (Some(id), Some(text)) = (token["id"].as_u64(), token["content"].as_str()) else {
                return Err(wrong("an added token has no number or no text"));
            };
            let kind = if token["special"].as_bool() == Some(true) { CONTROL } else { USER };
            known.insert(id as usize, (text.to_string(), kind));
        }
        if let Some((most, _)) = known.last_key_value().filter(|(id, _)| **id >= count) {
            return Err(wrong(&format!("it has a token {most}, and the model has {count} tokens")));
        }
        let (texts, kinds) = (0..count).map(|id| known.remove(&id).unwrap_or((format!("[PAD{id}]"), UNUSED))).unzip();
        let pair = |merge: &Value| match merge {
            Value::String(text) => Some(text.clone()),
            Value::Array(two) => Some(format!("{} {}", two.first()?.as_str()?, two.get(1)?.as_str()?)),
            _ => None,
        };
        let merges = model["merges"].as_array().into_iter().flatten().map(pair).collect::<Option<Vec<_>>>();
        let merges = merges.ok_or_else(|| wrong("a merge is no pair of texts"))?;
        let settings = json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
        let config = json(&folder.join("config.json"))?.unwrap_or(Value::Null);
        let cut = cut(&tokenizer["pre_tokenizer"]).ok_or_else(|| {
            wrong("the way in which it cuts text before merging is none that llama.cpp has a name for here; leave `gguf` out of `export`")
        })?;
        let numbered = |text: &str| -> Option<u32> {
            let added = tokenizer["added_tokens"].as_array().into_iter().flatten().find(|t| t["content"].as_str() == Some(text));
            added.map(|t| &t["id"]).or_else(|| vocabulary.get(text)).and_then(Value::as_u64).map(|id| id as u32)
        };
        let names = [
            ("tokenizer.ggml.bos_token_id", "bos_token"),
            ("tokenizer.ggml.eos_token_id", "eos_token"),
            ("tokenizer.ggml.unknown_token_id", "unk_token"),
            ("tokenizer.ggml.padding_token_id", "pad_token"),
        ];
        let special = names.into_iter().filter_map(|(key, name)| {
            let named = content(settings.get(name)).and_then(|text| numbered(&text));
            let id = config.get(format!("{name}_id")).and_then(|id| id.as_u64().or_else(|| id.get(0)?.as_u64()));
            Some((key, named.or(id.map(|id| id as u32))?))
        });
        let special: Vec<_> = special.collect();
        let template =
            std::fs::read_to_string(folder.join("chat_template.jinja")).ok().or_else(|| content(settings.get("chat_template")));
        // What the tokenizer itself puts in front, whatever settings say.
        let first = tokenizer.pointer("/post_processor").is_some_and(begins);
        Ok(Self { texts, kinds, merges, cut, special, begins: first, template })
    }

    /// As keys.
    pub fn keys(self) -> Vec<(String, Entry)> {
        let mut keys = vec![
            ("tokenizer.ggml.model".to_string(), Entry::Text("gpt2".into())),
            ("tokenizer.ggml.pre".to_string(), Entry::Text(self.cut.into())),
            ("tokenizer.ggml.tokens".to_string(), Entry::Texts(self.texts)),
            ("tokenizer.ggml.token_type".to_string(), Entry::I32s(self.kinds)),
            ("tokenizer.ggml.merges".to_string(), Entry::Texts(self.merges)),
            ("tokenizer.ggml.add_bos_token".to_string(), Entry::Bool(self.begins)),
            ("tokenizer.ggml.add_space_prefix".to_string(), Entry::Bool(false)),
        ];
        keys.extend(self.special.into_iter().map(|(key, id)| (key.to_string(), Entry::U32(id))));
        keys.extend(self.template.map(|text| ("tokenizer.chat_template".to_string(), Entry::Text(text))));
        keys
    }
}

/// A JSON file, where there is one.
fn json(path: &Path) -> Result<Option<Value>, HubError> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| HubError::format(path, e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(HubError::read(path)(e)),
    }
}

/// Whether a template puts a special token in front of a text.
fn begins(processor: &Value) -> bool {
    let single = |p: &Value| p["single"].pointer("/0/SpecialToken").is_some();
    single(processor) || processor["processors"].as_array().into_iter().flatten().any(single)
}

/// llama.cpp's name for a way to cut text, by the pattern that it cuts at.
fn cut(pre: &Value) -> Option<&'static str> {
    let steps: Vec<&Value> = match pre["pretokenizers"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![pre],
    };
    let pattern = steps.iter().find_map(|s| s.pointer("/pattern/Regex").and_then(Value::as_str));
    let splits = steps.iter().filter(|s| s["type"].as_str() == Some("Split")).count();
    let digits = steps.iter().any(|s| s["type"].as_str() == Some("Digits") && s["individual_digits"].as_bool() == Some(true));
    match pattern {
        Some(_) if splits != 1 => None,
        Some(p) if p == LLAMA3 => Some("llama-bpe"),
        Some(p) if p == QWEN2 => Some("qwen2"),
        Some(_) => None,
        None if digits => Some("smollm"),
        // GPT-2's own pattern.
        None if steps.iter().any(|s| s["type"].as_str() == Some("ByteLevel")) => Some("gpt-2"),
        None => None,
    }
}
