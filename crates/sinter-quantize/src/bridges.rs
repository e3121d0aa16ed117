//! Bridges: values whose channels may change scale. A channel that one layer writes is divided by a factor, and what reads it multiplies by the
//! same, so the model computes what it did, and its weights or activations become easier to quantize. The passes `equalize` and `smooth`
//! choose the factors.

use std::collections::BTreeMap;

use sinter_model::{IntegerKernel, Layer, Model, OpResult, Weight};
use sinter_train::StageError;
use tch::Tensor;

/// A value whose channels may change scale.
#[derive(Debug)]
pub(crate) struct Bridge {
    /// What divides: stored tensors and their axis of the value's channels.
    pub writers: Vec<(String, usize)>,
    /// What multiplies: all layers that read the value.
    pub readers: Vec<Reader>,
    /// Whether a normalisation writes the value.
    pub normalised: bool,
}

#[derive(Debug)]
pub(crate) struct Reader {
    pub layer: Layer,
    /// The weight's axis of the value's channels.
    pub axis: usize,
}

/// A vector shaped so that it broadcasts over a tensor along an axis.
pub(crate) fn along(vector: &Tensor, axis: usize, like: &Tensor) -> OpResult<Tensor> {
    let mut shape = vec![1i64; like.dim()];
    shape[axis] = vector.numel() as i64;
    Ok(vector.f_reshape(shape)?)
}

/// The largest magnitude at each index of an axis.
pub(crate) fn largest(value: &Tensor, axis: usize) -> OpResult<Tensor> {
    let rows = value.f_movedim_int(axis as i64, 0)?.f_reshape([value.size()[axis], -1])?;
    Ok(rows.f_abs()?.f_amax(1, false)?)
}

/// Divides what writes the value by the factors, and multiplies what reads it.
pub(crate) fn apply(model: &mut Model, bridge: &Bridge, factors: &Tensor) -> Result<(), StageError> {
    let inverse = factors.f_reciprocal()?;
    let writers = bridge.writers.iter().map(|(name, axis)| (name, *axis, &inverse));
    let readers = bridge.readers.iter().map(|r| (&r.layer.weight, r.axis, factors));
    for (name, axis, factors) in writers.chain(readers) {
        let weight = model.weight_mut(name)?;
        let at = StageError::weight(name);
        let latent = weight.latent().f_detach()?;
        let scaled = along(factors, axis, &latent).and_then(|f| Ok(latent.f_mul(&f)?)).map_err(&at)?;
        weight.set_latent(scaled).map_err(&at)?;
    }
    Ok(())
}

/// Every value of the graph that is written and read only by what can take factors.
pub(crate) fn bridges(model: &Model) -> Vec<Bridge> {
    let graph = &model.graph;
    let (consumers, producers) = (graph.consumers(), graph.producers());
    let layers = model.layers();
    let used = |name: &str| consumers.get(name).map_or(0, Vec::len);
    let plain = |w: &Weight| w.codebook().is_none() && w.half().is_none() && w.quantizer().is_none();
    let own = |name: &str| used(name) == 1 && model.weights.get(name).is_some_and(plain);
    let mut found = Vec::new();
    for value in graph.nodes.iter().flat_map(|n| &n.outputs) {
        let Some(readers) = consumers.get(value.as_str()).filter(|_| !graph.is_output(value)) else { continue };
        let each = readers.iter().map(|&i| {
            let layer = layers.iter().find(|l| l.node == i && l.slot.input == 1 && graph.nodes[i].inputs[0] == *value)?;
            let axis = graph.nodes[i].op.reader_axis(&model.weights.get(&layer.weight)?.size())?;
            own(&layer.weight).then(|| Reader { layer: layer.clone(), axis })
        });
        let Some(readers) = each.collect::<Option<Vec<Reader>>>() else { continue };
        let Some(channels) = readers.first().map(|r| model.weights[&r.layer.weight].size()[r.axis]) else { continue };
        if readers.iter().any(|r| model.weights[&r.layer.weight].size()[r.axis] != channels) {
            continue;
        }
        if let Some((writers, normalised)) = writers(model, value, channels, &producers, &used, &own) {
            found.push(Bridge { writers, readers, normalised });
        }
    }
    found
}

/// What writes the channels of a value, back through operators that scale with their input.
fn writers(
    model: &Model,
    value: &str,
    channels: i64,
    producers: &BTreeMap<&str, usize>,
    used: &dyn Fn(&str) -> usize,
    own: &dyn Fn(&str) -> bool,
) -> Option<(Vec<(String, usize)>, bool)> {
    let vector = |name: &str| own(name) && model.weights.get(name).is_some_and(|w| w.size() == [channels]);
    let mut writers = Vec::new();
    let mut value = value;
    loop {
        let node = &model.graph.nodes[*producers.get(value)?];
        if let Some(scale) = node.op.output_scale() {
            let (weight, axis) = (node.inputs.get(scale.weight.0)?, scale.weight.1);
            let bias = node.inputs.get(scale.bias).filter(|b| !b.is_empty());
            let fits = model.weights.get(weight)?.size().get(axis) == Some(&channels) && (!scale.normalised || vector(weight));
            if !own(weight) || !fits || bias.is_some_and(|b| !vector(b)) {
                return None;
            }
            writers.insert(0, (weight.clone(), axis));
            writers.extend(bias.map(|b| (b.clone(), 0)));
            return Some((writers, scale.normalised));
        }
        if node.op.integer_kernel() == Some(IntegerKernel::Sum) {
            let (other, stored) = match (vector(&node.inputs[0]), vector(&node.inputs[1])) {
                (true, false) => (1, 0),
                (false, true) => (0, 1),
                _ => return None,
            };
            writers.push((node.inputs[stored].clone(), 0));
            value = &node.inputs[other];
            // A vector added along the last axis is one of channels only to matrix products.
            let inner = &model.graph.nodes[*producers.get(value)?];
            if used(value) != 1 || inner.op.with_bias().is_none() {
                return None;
            }
            continue;
        }
        if !node.op.is_homogeneous() {
            return None;
        }
        value = &node.inputs[0];
        if used(value) != 1 || model.graph.is_output(value) {
            return None;
        }
    }
}
