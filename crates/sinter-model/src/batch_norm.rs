//! Folding batch normalisation into the layer before it (Jacob et al., 2018, section 3.2), and putting one behind a layer.

use tch::{Kind, Tensor};

use crate::attributes::Attributes;
use crate::encoding::{Grid, GridShape};
use crate::error::OpResult;
use crate::graph::Node;
use crate::model::{Layer, Model};
use crate::weight::{Role, Weight};

const EPSILON: f64 = 1e-5;

/// Folds every batch normalisation that follows a convolution or dense layer whose weight is used once and [can be scaled by
/// channel](scales_by_channel). Returns the number folded. The function of the model at inference is unchanged, but for the rounding of a
/// grid's scales.
///
/// Errors when a normalisation turns a channel's sign around and the weight has a grid, whose scales are positive.
pub fn fold_batch_norm(model: &mut Model) -> OpResult<usize> {
    let mut folded = 0;
    while let Some((layer, at)) = next(model) {
        fold_one(model, &layer, at)?;
        folded += 1;
    }
    if folded > 0 {
        model.drop_unused();
    }
    Ok(folded)
}

/// A layer and the index of the batch normalisation that can be folded into it.
fn next(model: &Model) -> Option<(Layer, usize)> {
    let consumers = model.graph.consumers();
    model.layers().into_iter().find_map(|layer| {
        let node = &model.graph.nodes[layer.node];
        if !matches!(node.kind(), "Conv" | "ConvTranspose" | "Gemm") {
            return None;
        }
        let output = node.outputs.first()?;
        let [at] = consumers.get(output.as_str())?.as_slice() else { return None };
        let norm = &model.graph.nodes[*at];
        let once = |name: &str| consumers.get(name).is_some_and(|c| c.len() == 1);
        let weight = model.weights.get(&layer.weight)?;
        let plain = scales_by_channel(weight, &layer) && once(&layer.weight);
        let bias_free = node.inputs.get(2).is_none_or(|b| b.is_empty() || (layer.bias.is_some() && once(b)));
        let stored = norm.inputs.iter().skip(1).all(|n| model.weights.contains_key(n));
        let scaled = matches!(node.attributes.get_float("beta", 1.0), Ok(b) if b == 1.0);
        let fits = norm.kind() == "BatchNormalization" && norm.inputs[0] == *output && !model.graph.is_output(output);
        (fits && plain && bias_free && stored && scaled && groups_allow(node)).then_some((layer, *at))
    })
}

/// Whether each output channel of a layer's weight can be scaled alone: not where channels share values or a scale. Masks survive, since
/// scaling keeps zeros.
pub fn scales_by_channel(weight: &Weight, layer: &Layer) -> bool {
    let alone = |grid: &Grid| grid.shape() == GridShape::Channel(layer.slot.out_axis);
    weight.codebook().is_none() && weight.grid().is_none_or(alone)
}

/// Puts a batch normalisation behind a layer that changes nothing where the layer gives values of these means and variances (float32,
/// one a channel), so that training can move both. Returns the name of its scale. The layer is one that [`fold_batch_norm`] takes.
pub fn insert_batch_norm(model: &mut Model, layer: &Layer, mean: &Tensor, variance: &Tensor) -> OpResult<String> {
    let node = &mut model.graph.nodes[layer.node];
    let output = node.outputs[0].clone();
    let inner = format!("{output}.raw");
    node.outputs[0] = inner.clone();
    let parts = [
        ("scale", Role::Parameter, variance.f_add_scalar(EPSILON)?.f_sqrt()?),
        ("bias", Role::Parameter, mean.copy()),
        ("mean", Role::Statistic, mean.copy()),
        ("var", Role::Statistic, variance.copy()),
    ];
    let mut inputs = vec![inner];
    for (part, role, value) in parts {
        let name = free_name(model, &format!("{output}.norm.{part}"));
        model.weights.insert(name.clone(), Weight::new(role, value));
        inputs.push(name);
    }
    let scale = inputs[1].clone();
    // What is to be folded is averaged over a hundred batches.
    let attributes = Attributes::new().float("epsilon", EPSILON as f32).float("momentum", 0.99);
    let norm = Node::new(&format!("{output}.norm"), "BatchNormalization", attributes, inputs, vec![output])?;
    model.graph.nodes.insert(layer.node + 1, norm);
    Ok(scale)
}

/// A grouped transposed convolution keeps its output channels on two axes: left alone.
fn groups_allow(node: &Node) -> bool {
    node.kind() != "ConvTranspose" || matches!(node.attributes.get_int("group", 1), Ok(1))
}

fn fold_one(model: &mut Model, layer: &Layer, at: usize) -> OpResult<()> {
    let norm = model.graph.nodes[at].clone();
    let epsilon = norm.attributes.get_float("epsilon", 1e-5)?;
    let value = |model: &Model, name: &String| match model.weights.get(name) {
        Some(weight) => Ok(weight.effective()?.f_detach()?.f_to_kind(Kind::Double)?),
        None => crate::error::invalid!("`{name}` is not stored"),
    };
    let [gamma, beta, mean, var] = [1, 2, 3, 4].map(|i| value(model, &norm.inputs[i]));
    let factor = gamma?.f_div(&var?.f_add_scalar(epsilon)?.f_sqrt()?)?;
    let old_bias = match &layer.bias {
        Some(name) => value(model, name)?,
        None => factor.f_zeros_like()?,
    };
    let bias = old_bias.f_sub(&mean?)?.f_mul(&factor)?.f_add(&beta?)?.f_to_kind(Kind::Float)?;
    if let Some(weight) = model.weights.get_mut(&layer.weight) {
        let mut shape = vec![1i64; weight.size().len()];
        shape[layer.slot.out_axis] = factor.numel() as i64;
        let scaled = weight.latent().f_detach()?.f_mul(&factor.f_reshape(shape)?)?;
        weight.set_latent(scaled.f_to_kind(Kind::Float)?)?;
        weight.grid_mut().map_or(Ok(()), |grid| grid.rescale(&factor.f_to_kind(Kind::Float)?))?;
    }
    let bias_name = match &layer.bias {
        Some(name) => name.clone(),
        None => free_name(model, &format!("{}.bias", layer.name)),
    };
    model.weights.insert(bias_name.clone(), Weight::new(Role::Parameter, bias));
    let node = &mut model.graph.nodes[layer.node];
    node.inputs.truncate(2);
    node.inputs.push(bias_name);
    node.outputs = vec![norm.outputs[0].clone()];
    model.graph.nodes.remove(at);
    Ok(())
}

fn free_name(model: &Model, hint: &str) -> String {
    let mut name = hint.to_string();
    while model.weights.contains_key(&name) {
        name.push('_');
    }
    name
}
