//! A decoder as a graph of ONNX operators: embeddings, blocks of attention and a gated feed-forward layer, and a head.
//!
//! Nodes are named after the modules of the folder and weights after its tensors, so that what a user knows as
//! `model.layers.0.self_attn.q_proj` is the layer of that name in every pattern, table and file.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Attributes, Dim, ElementType, Graph, Model, Node, Role, ValueInfo, Weight, elements};
use tch::Tensor;

use crate::config::Config;
use crate::error::HubError;
use crate::shards::Shards;

/// What a later token adds to a score: as good as minus infinity, and finite in every format.
const MASKED: f32 = -1e9;

/// The input, token numbers `[batch, tokens]`.
pub(crate) const INPUT: &str = "input_ids";
/// The output `[batch, tokens, vocabulary]`.
const OUTPUT: &str = "logits";
/// The embeddings, and the head where it is tied to them.
pub(crate) const EMBEDDINGS: &str = "model.embed_tokens.weight";
/// The head where it is not.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Tensors and their shapes.
type Shapes = BTreeMap<String, Vec<i64>>;

/// The tensors that config.json asks for, with their shapes.
pub(crate) fn tensors(config: &Config) -> Shapes {
    let mut all = around_blocks(config);
    (0..config.layers).for_each(|layer| all.extend(of_block(config, &block(layer))));
    all
}

/// The module of a block.
fn block(layer: i64) -> String {
    format!("model.layers.{layer}")
}

/// Those that are in no block.
fn around_blocks(config: &Config) -> Shapes {
    let Config { hidden, vocabulary, .. } = *config;
    let mut all =
        BTreeMap::from([(EMBEDDINGS.to_string(), vec![vocabulary, hidden]), ("model.norm.weight".into(), vec![hidden])]);
    if !config.tied {
        all.insert(HEAD.into(), vec![vocabulary, hidden]);
    }
    all
}

/// Those of the block at this module.
fn of_block(config: &Config, at: &str) -> Shapes {
    let Config { hidden, inner, heads, kv_heads, head, mlp_bias, .. } = *config;
    let (biased, output_biased) = config.attention_biases();
    let mut all = Shapes::new();
    for (part, out, input, biased) in [
        ("self_attn.q_proj", heads * head, hidden, biased),
        ("self_attn.k_proj", kv_heads * head, hidden, biased),
        ("self_attn.v_proj", kv_heads * head, hidden, biased),
        ("self_attn.o_proj", hidden, heads * head, output_biased),
        ("mlp.gate_proj", inner, hidden, mlp_bias),
        ("mlp.up_proj", inner, hidden, mlp_bias),
        ("mlp.down_proj", hidden, inner, mlp_bias),
    ] {
        all.insert(format!("{at}.{part}.weight"), vec![out, input]);
        if biased {
            all.insert(format!("{at}.{part}.bias"), vec![out]);
        }
    }
    let norms = [("input_layernorm", hidden), ("post_attention_layernorm", hidden)];
    let of_heads = [("self_attn.q_norm", head), ("self_attn.k_norm", head)].into_iter().filter(|_| config.family.head_norms);
    all.extend(norms.into_iter().chain(of_heads).map(|(norm, size)| (format!("{at}.{norm}.weight"), vec![size])));
    all
}

/// Builds the model for texts of `tokens`; what the folder holds beside it is given by name.
pub(crate) fn build(name: &str, config: &Config, shards: &Shards, tokens: i64) -> Result<(Model, Vec<String>), HubError> {
    let model = Model { name: name.to_string(), ..Model::default() };
    let mut build = Build { model, config, shards, tokens, taken: BTreeSet::new(), shapes: around_blocks(config) };
    build.constants()?;
    let mut x = build.embed()?;
    for layer in 0..config.layers {
        x = build.block(&block(layer), &x)?;
    }
    let x = build.norm("model.norm", &x)?;
    build.head(&x)?;
    Ok(build.finish())
}

struct Build<'a> {
    model: Model,
    config: &'a Config,
    shards: &'a Shards,
    tokens: i64,
    /// Tensors that are part of the model.
    taken: BTreeSet<String>,
    /// What config.json says of the tensors so far.
    shapes: Shapes,
}

impl Build<'_> {
    /// A node and the name of its result.
    fn node(&mut self, name: &str, kind: &str, attributes: Attributes, inputs: &[&str]) -> Result<String, HubError> {
        let output = if name == OUTPUT { OUTPUT.to_string() } else { format!("{name}.out") };
        let inputs = inputs.iter().map(|i| i.to_string()).collect();
        let name = if name == OUTPUT { "lm_head" } else { name };
        self.model.graph.nodes.push(Node::new(name, kind, attributes, inputs, vec![output.clone()])?);
        Ok(output)
    }

    fn constant(&mut self, name: &str, value: Tensor) {
        self.model.weights.insert(name.to_string(), Weight::new(Role::Constant, value));
    }

    /// A tensor of the folder as a weight, once.
    fn weight(&mut self, name: &str) -> Result<String, HubError> {
        if self.taken.insert(name.to_string()) {
            let shape = self.shapes.get(name).ok_or_else(|| HubError::tensor(name, "config.json does not tell of it"))?;
            let tensor = self.shards.float(name, shape)?;
            self.model.weights.insert(name.to_string(), Weight::new(Role::Parameter, tensor));
        }
        Ok(name.to_string())
    }

    /// What all blocks read: positions, the mask, shapes.
    fn constants(&mut self) -> Result<(), HubError> {
        let (t, d) = (self.tokens, self.config.head);
        for table in [[t, t], [t, d]] {
            let _there_is_room = elements(&table, 4).map_err(|e| HubError::tensor("mask", e))?;
        }
        let (heads, kv) = (self.config.heads, self.config.kv_heads);
        let frequencies = self.config.rope.frequencies(d);
        let angle = |position: i64, i: usize| position as f64 * frequencies[i % frequencies.len()];
        let table = |of: fn(f64) -> f64| -> Result<Tensor, HubError> {
            let values: Vec<f32> =
                (0..t).flat_map(|p| (0..d as usize).map(move |i| (p, i))).map(|(p, i)| of(angle(p, i)) as f32).collect();
            Ok(Tensor::f_from_slice(&values)?.f_reshape([t, d])?)
        };
        self.constant("rotary.cos", table(f64::cos)?);
        self.constant("rotary.sin", table(f64::sin)?);
        let mask: Vec<f32> = (0..t).flat_map(|q| (0..t).map(move |k| if k > q { MASKED } else { 0.0 })).collect();
        self.constant("mask", Tensor::f_from_slice(&mask)?.f_reshape([t, t])?);
        for (name, value) in [("two", 2.0), ("epsilon", self.config.epsilon as f32), ("scale", 1.0 / (d as f32).sqrt())] {
            self.constant(name, Tensor::f_from_slice(&[value])?);
        }
        let lists: [(&str, Vec<i64>); 9] = [
            ("last", vec![-1]),
            ("zero", vec![0]),
            ("half", vec![d / 2]),
            ("end", vec![d]),
            ("third", vec![2]),
            ("shape.queries", vec![0, 0, heads, d]),
            ("shape.keys", vec![0, 0, kv, d]),
            ("shape.grouped", vec![0, kv, heads / kv, t, d]),
            ("shape.heads", vec![0, heads, t, d]),
        ];
        for (name, values) in lists {
            self.constant(name, Tensor::f_from_slice(&values)?);
        }
        self.constant("shape.joined", Tensor::f_from_slice(&[0, 0, heads * d])?);
        Ok(())
    }

    fn embed(&mut self) -> Result<String, HubError> {
        let table = self.weight(EMBEDDINGS)?;
        self.node("model.embed_tokens", "Gather", Attributes::new().int("axis", 0), &[&table, INPUT])
    }

    fn block(&mut self, at: &str, x: &str) -> Result<String, HubError> {
        self.shapes.extend(of_block(self.config, at));
        let normed = self.norm(&format!("{at}.input_layernorm"), x)?;
        let attended = self.attention(&format!("{at}.self_attn"), &normed)?;
        let x = self.node(&format!("{at}.attention_residual"), "Add", Attributes::new(), &[x, &attended])?;
        let normed = self.norm(&format!("{at}.post_attention_layernorm"), &x)?;
        let fed = self.feed_forward(&format!("{at}.mlp"), &normed)?;
        self.node(&format!("{at}.mlp_residual"), "Add", Attributes::new(), &[&x, &fed])
    }

    /// The root-mean-square norm (Zhang and Sennrich, 2019), in the operators that ONNX Runtime fuses.
    fn norm(&mut self, at: &str, x: &str) -> Result<String, HubError> {
        let weight = self.weight(&format!("{at}.weight"))?;
        let plain = Attributes::new;
        let square = self.node(&format!("{at}.square"), "Pow", plain(), &[x, "two"])?;
        let mean = self.node(&format!("{at}.mean"), "ReduceMean", plain().int("keepdims", 1), &[&square, "last"])?;
        let mean = self.node(&format!("{at}.add_epsilon"), "Add", plain(), &[&mean, "epsilon"])?;
        let root = self.node(&format!("{at}.root"), "Sqrt", plain(), &[&mean])?;
        let normed = self.node(&format!("{at}.divide"), "Div", plain(), &[x, &root])?;
        self.node(at, "Mul", plain(), &[&normed, &weight])
    }

    /// A linear layer; its weight stays `[out, in]`, as the folder has it.
    fn linear(&mut self, at: &str, x: &str) -> Result<String, HubError> {
        let weight = self.weight(&format!("{at}.weight"))?;
        let y = self.node(at, "MatMul", Attributes::new().int("transB", 1), &[x, &weight])?;
        let bias = format!("{at}.bias");
        if !self.shapes.contains_key(&bias) {
            return Ok(y);
        }
        let bias = self.weight(&bias)?;
        self.node(&format!("{at}.add_bias"), "Add", Attributes::new(), &[&y, &bias])
    }

    /// Rotary positions: each half of a head is turned against the other.
    fn rotate(&mut self, at: &str, x: &str) -> Result<String, HubError> {
        let plain = Attributes::new;
        let first = self.node(&format!("{at}.first_half"), "Slice", plain(), &[x, "zero", "half", "last"])?;
        let second = self.node(&format!("{at}.second_half"), "Slice", plain(), &[x, "half", "end", "last"])?;
        let second = self.node(&format!("{at}.negative"), "Neg", plain(), &[&second])?;
        let turned = self.node(&format!("{at}.turned"), "Concat", plain().int("axis", -1), &[&second, &first])?;
        let along = self.node(&format!("{at}.along"), "Mul", plain(), &[x, "rotary.cos"])?;
        let across = self.node(&format!("{at}.across"), "Mul", plain(), &[&turned, "rotary.sin"])?;
        self.node(&format!("{at}.rotated"), "Add", plain(), &[&along, &across])
    }

    /// Causal attention; queries share heads of keys and values in groups (Ainslie et al., 2023).
    fn attention(&mut self, at: &str, x: &str) -> Result<String, HubError> {
        let plain = Attributes::new;
        let by_head = || Attributes::new().ints("perm", &[0, 2, 1, 3]);
        let mut parts = Vec::new();
        for (part, shape) in [("q", "shape.queries"), ("k", "shape.keys"), ("v", "shape.keys")] {
            let y = self.linear(&format!("{at}.{part}_proj"), x)?;
            let mut y = self.node(&format!("{at}.{part}_heads"), "Reshape", plain(), &[&y, shape])?;
            if self.config.family.head_norms && part != "v" {
                y = self.norm(&format!("{at}.{part}_norm"), &y)?;
            }
            let mut y = self.node(&format!("{at}.{part}_by_head"), "Transpose", by_head(), &[&y])?;
            if part != "v" {
                y = self.rotate(&format!("{at}.{part}"), &y)?;
            }
            parts.push(y);
        }
        let queries = self.node(&format!("{at}.scaled"), "Mul", plain(), &[&parts[0], "scale"])?;
        let queries = self.node(&format!("{at}.grouped"), "Reshape", plain(), &[&queries, "shape.grouped"])?;
        let keys = self.node(&format!("{at}.keys"), "Transpose", plain().ints("perm", &[0, 1, 3, 2]), &[&parts[1]])?;
        let keys = self.node(&format!("{at}.shared_keys"), "Unsqueeze", plain(), &[&keys, "third"])?;
        let values = self.node(&format!("{at}.shared_values"), "Unsqueeze", plain(), &[&parts[2], "third"])?;
        let scores = self.node(&format!("{at}.scores"), "MatMul", plain(), &[&queries, &keys])?;
        let scores = self.node(&format!("{at}.causal"), "Add", plain(), &[&scores, "mask"])?;
        let shares = self.node(&format!("{at}.shares"), "Softmax", plain().int("axis", -1), &[&scores])?;
        let y = self.node(&format!("{at}.attended"), "MatMul", plain(), &[&shares, &values])?;
        let y = self.node(&format!("{at}.ungrouped"), "Reshape", plain(), &[&y, "shape.heads"])?;
        let y = self.node(&format!("{at}.by_token"), "Transpose", by_head(), &[&y])?;
        let y = self.node(&format!("{at}.joined"), "Reshape", plain(), &[&y, "shape.joined"])?;
        self.linear(&format!("{at}.o_proj"), &y)
    }

    /// A gated layer (SwiGLU; Shazeer, 2020).
    fn feed_forward(&mut self, at: &str, x: &str) -> Result<String, HubError> {
        let plain = Attributes::new;
        let gate = self.linear(&format!("{at}.gate_proj"), x)?;
        let up = self.linear(&format!("{at}.up_proj"), x)?;
        let share = self.node(&format!("{at}.sigmoid"), "Sigmoid", plain(), &[&gate])?;
        let gate = self.node(&format!("{at}.silu"), "Mul", plain(), &[&gate, &share])?;
        let gated = self.node(&format!("{at}.gated"), "Mul", plain(), &[&gate, &up])?;
        self.linear(&format!("{at}.down_proj"), &gated)
    }

    /// Scores of all tokens of the vocabulary, by the embeddings where they are tied.
    fn head(&mut self, x: &str) -> Result<(), HubError> {
        if !self.config.tied && !self.shards.has(HEAD) {
            let reason =
                "the weights do not hold it, and config.json does not tie it to the embeddings (`tie_word_embeddings: true`)";
            return Err(HubError::tensor(HEAD, reason));
        }
        let weight = self.weight(if self.config.tied { EMBEDDINGS } else { HEAD })?;
        self.node(OUTPUT, "MatMul", Attributes::new().int("transB", 1), &[x, &weight]).map(drop)
    }

    fn finish(mut self) -> (Model, Vec<String>) {
        let (batch, tokens) = (Dim::Free("batch".into()), Dim::Fixed(self.tokens));
        let info = |name: &str, element, shape| ValueInfo { name: name.to_string(), element, shape };
        let ids = info(INPUT, ElementType::Int64, vec![batch.clone(), tokens.clone()]);
        let logits = info(OUTPUT, ElementType::Float, vec![batch, tokens, Dim::Fixed(self.config.vocabulary)]);
        self.model.graph = Graph { inputs: vec![ids], outputs: vec![logits], ..self.model.graph };
        // Copies of what is shared or computed.
        let known = |name: &str| name.ends_with("rotary_emb.inv_freq") || (self.config.tied && name == HEAD);
        let left: Vec<String> = self.shards.names().filter(|n| !self.taken.contains(*n) && !known(n)).cloned().collect();
        (self.model, left)
    }
}
