//! Folding batch normalisation into the layer before it (Jacob et al., 2018, section 3.2), and putting one behind a layer.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::attributes::Attributes;
use crate::encoding::{Granularity, Quantizer};
use crate::error::OpResult;
use crate::graph::Node;
use crate::model::{Layer, Model};
use crate::weight::{Role, Weight};

const EPSILON: f64 = 1e-5;

/// Folds every batch normalisation that follows a layer which [takes one](takes_batch_norm). Returns the number folded. The function of the model at inference is unchanged, but for the rounding of a
/// quantizer's scales.
///
/// Errors when a normalisation turns a channel's sign around and the weight has a quantizer, whose scales are positive.
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
        if !takes_batch_norm(model, &layer, &consumers) {
            return None;
        }
        let output = &model.graph.nodes[layer.node].outputs[0];
        let [at] = consumers.get(output.as_str())?.as_slice() else { return None };
        let norm = &model.graph.nodes[*at];
        let stored = norm.inputs.iter().skip(1).all(|n| model.weights.contains_key(n));
        let fits = norm.op.batch_norm().is_some() && norm.inputs[0] == *output;
        (fits && stored).then_some((layer, *at))
    })
}

/// Whether a batch normalisation behind a layer could be folded into it: a convolution or dense layer whose weight and bias are its own,
/// and whose output channels can be scaled alone, as they can't where they share values or a scale. Masks survive, since scaling keeps zeros.
/// `consumers` are those of the model's graph.
pub fn takes_batch_norm(model: &Model, layer: &Layer, consumers: &BTreeMap<&str, Vec<usize>>) -> bool {
    let node = &model.graph.nodes[layer.node];
    let Some(weight) = model.weights.get(&layer.weight) else { return false };
    let once = |name: &str| consumers.get(name).is_some_and(|c| c.len() == 1);
    let by_channel = |quantizer: &Quantizer| quantizer.granularity() == Granularity::Channel(layer.slot.out_axis);
    node.op.takes_batch_norm()
        && weight.codebook().is_none()
        && weight.quantizer().is_none_or(by_channel)
        && once(&layer.weight)
        && node.inputs.get(2).is_none_or(|b| b.is_empty() || (layer.bias.is_some() && once(b)))
        && node.outputs.first().is_some_and(|output| !model.graph.is_output(output))
}

/// Puts a batch normalisation behind a layer that changes nothing where the layer gives values of these means and variances (float32,
/// one a channel), so that training can move both. Returns the name of its scale. The layer is one that [`fold_batch_norm`] takes.
pub fn insert_batch_norm(model: &mut Model, layer: &Layer, mean: &Tensor, variance: &Tensor) -> OpResult<String> {
    let output = model.graph.nodes[layer.node].outputs[0].clone();
    let inner = model.free_name(&format!("{output}.raw"));
    model.graph.nodes[layer.node].outputs[0] = inner.clone();
    let parts = [
        ("scale", Role::Parameter, variance.f_add_scalar(EPSILON)?.f_sqrt()?),
        ("bias", Role::Parameter, mean.copy()),
        ("mean", Role::Statistic, mean.copy()),
        ("var", Role::Statistic, variance.copy()),
    ];
    let mut inputs = vec![inner];
    for (part, role, value) in parts {
        let name = model.free_name(&format!("{output}.norm.{part}"));
        model.weights.insert(name.clone(), Weight::new(role, value));
        inputs.push(name);
    }
    let scale = inputs[1].clone();
    // While training, a prediction goes by averages over a hundred batches.
    let attributes = Attributes::new().float("epsilon", EPSILON as f32).float("momentum", 0.99);
    let norm = Node::new(&format!("{output}.norm"), "BatchNormalization", attributes, inputs, vec![output])?;
    model.graph.nodes.insert(layer.node + 1, norm);
    Ok(scale)
}

fn fold_one(model: &mut Model, layer: &Layer, at: usize) -> OpResult<()> {
    let norm = model.graph.nodes[at].clone();
    let epsilon = norm.op.batch_norm().unwrap_or(EPSILON);
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
        weight.quantizer_mut().map_or(Ok(()), |quantizer| quantizer.rescale(&factor.f_to_kind(Kind::Float)?))?;
    }
    let bias_name = match &layer.bias {
        Some(name) => name.clone(),
        None => model.free_name(&format!("{}.bias", layer.name)),
    };
    model.weights.insert(bias_name.clone(), Weight::new(Role::Parameter, bias));
    let node = &mut model.graph.nodes[layer.node];
    node.inputs.truncate(2);
    node.inputs.push(bias_name);
    node.outputs = vec![norm.outputs[0].clone()];
    model.graph.nodes.remove(at);
    Ok(())
}
