//! Folding batch normalisation into the layer before it (Jacob et al., 2018, section 3.2).

use tch::Kind;

use crate::error::OpResult;
use crate::graph::Node;
use crate::model::{Layer, Model};
use crate::weight::{Role, Weight};

/// Folds every batch normalisation that follows a convolution or dense layer whose weight is used once and has neither codebook nor
/// grid; masks survive, since scaling keeps zeros. Returns the number folded. The function of the model at inference is unchanged.
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
        let plain = weight.codebook().is_none() && weight.grid().is_none() && once(&layer.weight);
        let bias_free = node.inputs.get(2).is_none_or(|b| b.is_empty() || (layer.bias.is_some() && once(b)));
        let stored = norm.inputs.iter().skip(1).all(|n| model.weights.contains_key(n));
        let scaled = matches!(node.attributes.get_float("beta", 1.0), Ok(b) if b == 1.0);
        let fits = norm.kind() == "BatchNormalization" && norm.inputs[0] == *output && !model.graph.is_output(output);
        (fits && plain && bias_free && stored && scaled && groups_allow(node)).then_some((layer, *at))
    })
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
