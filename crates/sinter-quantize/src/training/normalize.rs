//! Batch normalisation while training with few bits. What a layer gives then moves with every weight that changes its level; normalised
//! behind it, the layers after it see the same range all along (Ioffe and Szegedy, 2015). In the end each is folded: into the bias, and
//! into the scale of each channel, which leaves integers as they are.

use std::collections::BTreeMap;

use sinter_calibrate::{Moments, moments};
use sinter_data::Split;
use sinter_model::{
    Attributes, IntegerKernel, Layer, Mode, Model, Node, OpResult, Weight, fold_batch_norm, insert_batch_norm, takes_batch_norm,
};
use sinter_train::{Callback, Moment, StageError};
use tch::Tensor;

/// Samples whose mean and variance are taken.
pub(crate) const SAMPLES: usize = 2048;
/// A scale never falls below this: the scale of a channel's weights is to stay positive.
const LEAST: f64 = 1e-4;

/// Puts a normalisation behind every convolution and dense layer whose weights have at most so many bits and that one can be folded into
/// again; returns the names of their scales.
pub(crate) fn insert(model: &mut Model, widest: u8, samples: &Split) -> Result<Vec<String>, StageError> {
    let consumers = model.graph.consumers();
    let takes = |layer: &Layer| {
        let kernel = model.graph.nodes[layer.node].op.integer_kernel();
        matches!(kernel, Some(IntegerKernel::Product { .. }))
            && model.weights.get(&layer.weight).and_then(|w| w.quantizer()).is_some_and(|g| g.bits() <= widest)
            && takes_batch_norm(model, layer, &consumers)
    };
    let layers: Vec<Layer> = model.layers().into_iter().filter(takes).collect();
    if layers.is_empty() {
        return Ok(vec![]);
    }
    let outputs: Vec<&str> = layers.iter().map(|l| model.graph.nodes[l.node].outputs[0].as_str()).collect();
    let mut seen = moments(model, &outputs, samples, Mode::Predict)?;
    let mut scales = Vec::new();
    // The last first, since nodes behind a new one move.
    for layer in layers.iter().rev() {
        if let Some(Moments { mean, variance }) = seen.remove(&model.graph.nodes[layer.node].outputs[0]) {
            scales.push(insert_batch_norm(model, layer, &mean, &variance).map_err(StageError::weight(&layer.weight))?);
        }
    }
    Ok(scales)
}

/// Folds the normalisations with these scales, once those of quantizers are settled. What they see is measured anew, on samples as they are and
/// with the weights at rest: running statistics are of images that were shifted and flipped, and of weights that jumped between levels
/// (Nagel et al., Overcoming Oscillations, 2022).
pub(crate) fn fold(model: &mut Model, scales: &[String], samples: &Split) -> Result<(), StageError> {
    measure(model, scales, samples)?;
    fold_batch_norm(model)?;
    for (name, weight) in &mut model.weights {
        settle(weight).map_err(StageError::weight(name))?;
    }
    Ok(())
}

/// Rounds the scales of a weight's quantizer to 16 bits, and moves the weight with them, so that every integer stays.
fn settle(weight: &mut Weight) -> OpResult<()> {
    let size = weight.size();
    let Some(quantizer) = weight.quantizer_mut() else { return Ok(()) };
    let before = quantizer.scale_of_each(&size)?;
    quantizer.settle()?;
    let ratio = quantizer.scale_of_each(&size)?.f_div(&before)?;
    weight.set_latent(weight.latent().f_detach()?.f_mul(&ratio)?)
}

/// Gives the normalisations with these scales the mean and the variance of what they read.
fn measure(model: &mut Model, scales: &[String], samples: &Split) -> Result<(), StageError> {
    // A copy, since training mode moves running statistics.
    let mut still = model.copy();
    for node in still.graph.nodes.iter_mut().filter(|n| n.op.is_random()) {
        *node = Node::new(&node.name, "Identity", Attributes::new(), vec![node.inputs[0].clone()], node.outputs.clone())?;
    }
    let norms: Vec<Node> =
        model.graph.nodes.iter().filter(|n| n.inputs.get(1).is_some_and(|s| scales.contains(s))).cloned().collect();
    let inputs: Vec<&str> = norms.iter().map(|n| n.inputs[0].as_str()).collect();
    let mut seen = moments(&still, &inputs, samples, Mode::Train)?;
    for norm in &norms {
        if let Some(Moments { mean, variance }) = seen.remove(&norm.inputs[0]) {
            for (name, value) in norm.inputs[3..].iter().zip([mean, variance]) {
                model.weight_mut(name)?.set_latent(value).map_err(StageError::weight(name))?;
            }
        }
    }
    Ok(())
}

/// Keeps the scales of normalisations positive, besides what another callback does.
pub(crate) struct Positive<'a> {
    pub scales: &'a [String],
    pub other: &'a mut dyn Callback,
}

impl Positive<'_> {
    fn clamp(&self, model: &Model) -> Result<(), StageError> {
        for name in self.scales {
            // In place, since the tensor belongs to the optimizer.
            let mut scale = model.weight(name)?.latent().shallow_clone();
            let _ = tch::no_grad(|| scale.f_clamp_min_(LEAST))?;
        }
        Ok(())
    }
}

impl Callback for Positive<'_> {
    fn before_step(&mut self, model: &mut Model, moment: Moment) -> Result<(), StageError> {
        self.clamp(model)?;
        self.other.before_step(model, moment)
    }

    fn after_backward(&mut self, model: &Model) -> Result<(), StageError> {
        self.other.after_backward(model)
    }

    fn settled(&self, done: f64) -> bool {
        self.other.settled(done)
    }

    fn remembered(&self) -> BTreeMap<String, Tensor> {
        self.other.remembered()
    }

    fn recall(&mut self, remembered: BTreeMap<String, Tensor>) {
        self.other.recall(remembered);
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), StageError> {
        self.clamp(model)?;
        self.other.finish(model)
    }
}
