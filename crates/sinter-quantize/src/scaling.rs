//! Moving scale between layers: a channel that one layer writes is divided by a factor, and what reads it multiplies by the same. The model
//! computes what it did, and its weights or activations become easier to quantize. Three choices of the factors:
//!
//! - equalization makes the weights of both sides equally large (Nagel et al., 2019);
//! - SmoothQuant moves outliers of activations into weights (Xiao et al., 2023);
//! - AWQ enlarges the weights that large activations multiply (Lin et al., 2024).

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::Split;
use sinter_model::{Grid, Layer, Levels, Model, Node, OpResult, Weight};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

use crate::config::{Format, QuantizeConfig, Reach, Rounding, Scaling};
use crate::statistics::{self, Reads};
use crate::weights::weight_grid;

/// Rounds of equalization; each balances every bridge once.
const ROUNDS: usize = 10;
/// Exponents that are tried between leaving channels alone and evening them out whole.
const EXPONENTS: usize = 10;

/// A value whose channels may change scale.
#[derive(Debug)]
struct Bridge {
    /// What divides: stored tensors and their axis of the value's channels.
    writers: Vec<(String, usize)>,
    /// What multiplies: all layers that read the value.
    readers: Vec<Reader>,
    /// Whether a normalisation writes the value.
    normalised: bool,
}

#[derive(Debug)]
struct Reader {
    layer: Layer,
    /// The weight's axis of the value's channels.
    axis: usize,
}

impl QuantizeConfig {
    /// Moves scale between layers where that helps; what was done is noted.
    pub(crate) fn scale(&self, model: &mut Model, samples: &Split, context: &Context) -> Result<(), StageError> {
        let bridges = bridges(model);
        let asked = |scaling: Scaling| self.scaling.as_ref().map(|all| all.contains(&scaling));
        let format = |model: &Model, bridge: &Bridge| {
            let formats = bridge.readers.iter().map(|r| self.weight_format(model, &r.layer));
            formats.flatten().max_by_key(|f| f.bits())
        };
        let by_tensor = |b: &&Bridge| format(model, b).is_some_and(|f| f.reach == Reach::Tensor && f.bits() <= 8);
        let even: Vec<&Bridge> = bridges.iter().filter(|b| asked(Scaling::Equalize).unwrap_or(by_tensor(b))).collect();
        if !even.is_empty() {
            equalize(model, &even)?;
            context.note(format!("weights equalized across {} values", even.len()));
        }
        if samples.is_empty() {
            return Ok(());
        }
        let float = self.activations() == crate::Activations::None;
        let low = |b: &Bridge| format(model, b).is_some_and(|f| (2..8).contains(&f.bits()));
        let nearest = |b: &Bridge| b.readers.iter().all(|r| self.rounding(model, &r.layer) == Rounding::Nearest);
        let method = |b: &Bridge| match (asked(Scaling::Smooth), asked(Scaling::Awq)) {
            (None, None) if float && low(b) && nearest(b) => Some(Scaling::Awq),
            (None, None) if !float && b.normalised => Some(Scaling::Smooth),
            (Some(true), _) if !float => Some(Scaling::Smooth),
            (_, Some(true)) => Some(Scaling::Awq),
            _ => None,
        };
        let chosen: Vec<(&Bridge, Scaling)> = bridges.iter().filter_map(|b| Some((b, method(b)?))).collect();
        self.search(model, &chosen, samples, context)
    }

    /// Tries exponents for each bridge and keeps the factors that change the readers' outputs least, if they are better than none.
    fn search(
        &self,
        model: &mut Model,
        chosen: &[(&Bridge, Scaling)],
        samples: &Split,
        context: &Context,
    ) -> Result<(), StageError> {
        let weights: BTreeSet<String> =
            chosen.iter().flat_map(|(b, _)| b.readers.iter().map(|r| r.layer.weight.clone())).collect();
        if weights.is_empty() {
            return Ok(());
        }
        let reads = statistics::reads(model, &weights, samples, context)?;
        let mut moved: BTreeMap<Scaling, usize> = BTreeMap::new();
        for (bridge, scaling) in chosen {
            let at = StageError::weight(&bridge.readers[0].layer.weight);
            if let Some(factors) = self.best(model, bridge, *scaling, &reads).map_err(&at)? {
                apply(model, bridge, &factors)?;
                *moved.entry(*scaling).or_default() += 1;
            }
        }
        for (scaling, count) in moved {
            context.note(format!("{}: channels of {count} values scaled", scaling.name()));
        }
        Ok(())
    }

    /// The best factors of a bridge; `None` when none beat leaving it alone.
    fn best(
        &self,
        model: &Model,
        bridge: &Bridge,
        scaling: Scaling,
        reads: &BTreeMap<String, Reads>,
    ) -> OpResult<Option<Tensor>> {
        let mut parts = Vec::new();
        for reader in &bridge.readers {
            let (Some(seen), Some(weight)) = (reads.get(&reader.layer.weight), model.weights.get(&reader.layer.weight)) else {
                return Ok(None);
            };
            let Some(format) = self.weight_format(model, &reader.layer) else { return Ok(None) };
            parts.push((reader, weight.effective()?.f_detach()?, format, seen));
        }
        let Some((first, value, _, seen)) = parts.first() else { return Ok(None) };
        let channels = value.size()[first.axis];
        // All readers see the same value; windows of a convolution see each channel once for every place of the kernel.
        let each = |t: &Tensor, largest: bool| -> OpResult<Tensor> {
            let spread = t.f_reshape([channels, -1])?;
            Ok(if largest { spread.f_amax(1, false)? } else { spread.f_mean_dim(1, false, Kind::Float)? })
        };
        let activation = match scaling {
            Scaling::Smooth => each(&seen.largest, true)?,
            _ => each(&seen.mean, false)?,
        };
        let mut magnitude = Tensor::f_zeros([channels], (Kind::Float, tch::Device::Cpu))?;
        for (reader, value, ..) in &parts {
            magnitude = magnitude.f_maximum(&largest(value, reader.axis)?)?;
        }
        let floor = |t: Tensor| -> OpResult<Tensor> { Ok(t.f_clamp_min(t.f_max()?.f_double_value(&[])?.max(1e-12) * 1e-4)?) };
        let (activation, magnitude) = (floor(activation)?, floor(magnitude)?);
        let cost = |factors: &Tensor| -> OpResult<f64> {
            let mut sum = 0.0;
            for (reader, value, format, seen) in &parts {
                sum += self.error(reader, value, *format, seen, factors, scaling)?;
            }
            Ok(sum)
        };
        let mut best = (cost(&activation.f_ones_like()?)?, None);
        for step in 1..=EXPONENTS {
            let a = step as f64 / EXPONENTS as f64;
            let raw = match scaling {
                Scaling::Smooth => activation.f_pow_tensor_scalar(a)?.f_div(&magnitude.f_pow_tensor_scalar(1.0 - a)?)?,
                _ => activation.f_pow_tensor_scalar(a)?,
            };
            let middle = raw.f_log()?.f_mean(Kind::Float)?.f_exp()?;
            let factors = raw.f_div(&middle)?;
            let cost = cost(&factors)?;
            if cost < best.0 * 0.999 {
                best = (cost, Some(factors));
            }
        }
        Ok(best.1)
    }

    /// The squared error of a reader's output with these factors, from the second moments of what it reads: that of rounding its weight,
    /// and with quantized activations the noise of rounding those over one range for all channels.
    fn error(
        &self,
        reader: &Reader,
        value: &Tensor,
        format: Format,
        seen: &Reads,
        factors: &Tensor,
        scaling: Scaling,
    ) -> OpResult<f64> {
        let slot = reader.layer.slot;
        let broad = along(factors, reader.axis, value)?;
        let scaled = value.f_mul(&broad)?;
        let mut error = 0.0;
        if let Some(grid) = weight_grid(slot, &scaled, format, false, None)? {
            let change = slot.matrix(&grid.apply(&scaled)?.f_sub(&scaled)?.f_div(&broad)?)?;
            error += change.f_matmul(&seen.product)?.f_mul(&change)?.f_sum(Kind::Double)?.f_double_value(&[])?;
        }
        if scaling == Scaling::Smooth {
            let channels = factors.size()[0];
            let reach = |t: &Tensor, least: bool| -> OpResult<f64> {
                let scaled = t.f_reshape([channels, -1])?.f_div(&factors.f_unsqueeze(1)?)?;
                Ok(if least { scaled.f_min()? } else { scaled.f_max()? }.f_double_value(&[])?)
            };
            let (low, high) = (reach(&seen.low, true)?.min(0.0), reach(&seen.high, false)?.max(0.0));
            let bits = self.activations().calibrated().map_or(8, Format::bits);
            let step = Grid::affine(bits, Levels::Unsigned, low as f32, high as f32)?.scales()?[0] as f64;
            let gain = scaled.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
            error += seen.rows as f64 * step * step / 12.0 * gain;
        }
        Ok(error)
    }
}

/// A vector shaped so that it broadcasts over a tensor along an axis.
fn along(vector: &Tensor, axis: usize, like: &Tensor) -> OpResult<Tensor> {
    let mut shape = vec![1i64; like.dim()];
    shape[axis] = vector.numel() as i64;
    Ok(vector.f_reshape(shape)?)
}

/// The largest magnitude at each index of an axis.
fn largest(value: &Tensor, axis: usize) -> OpResult<Tensor> {
    let rows = value.f_movedim_int(axis as i64, 0)?.f_reshape([value.size()[axis], -1])?;
    Ok(rows.f_abs()?.f_amax(1, false)?)
}

/// Balances the largest magnitudes of both sides of every bridge.
fn equalize(model: &mut Model, bridges: &[&Bridge]) -> Result<(), StageError> {
    for _ in 0..ROUNDS {
        for bridge in bridges {
            let Some((writer, axis)) = bridge.writers.first() else { continue };
            let factors = || -> OpResult<Option<Tensor>> {
                let value = |name: &str| model.weights.get(name).map(|w| w.effective()).transpose();
                let Some(written) = value(writer)? else { return Ok(None) };
                let written = largest(&written, *axis)?;
                let mut read = written.f_zeros_like()?;
                for reader in &bridge.readers {
                    let Some(value) = value(&reader.layer.weight)? else { return Ok(None) };
                    read = read.f_maximum(&largest(&value, reader.axis)?)?;
                }
                // A dead channel has nothing to balance.
                let ratio = written.f_div(&read)?.f_sqrt()?.f_nan_to_num(1.0, 1.0, 1.0)?;
                Ok(Some(ratio.f_clamp(1e-3, 1e3)?.f_detach()?))
            };
            if let Some(factors) = tch::no_grad(factors).map_err(StageError::weight(writer))? {
                apply(model, bridge, &factors)?;
            }
        }
    }
    Ok(())
}

/// Divides what writes the value by the factors, and multiplies what reads it.
fn apply(model: &mut Model, bridge: &Bridge, factors: &Tensor) -> Result<(), StageError> {
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
fn bridges(model: &Model) -> Vec<Bridge> {
    let graph = &model.graph;
    let (consumers, producers) = (graph.consumers(), graph.producers());
    let layers = model.layers();
    let used = |name: &str| consumers.get(name).map_or(0, Vec::len);
    let plain = |w: &Weight| w.codebook().is_none() && w.half().is_none() && w.grid().is_none();
    let own = |name: &str| used(name) == 1 && model.weights.get(name).is_some_and(plain);
    let mut found = Vec::new();
    for value in graph.nodes.iter().flat_map(|n| &n.outputs) {
        let Some(readers) = consumers.get(value.as_str()).filter(|_| !graph.is_output(value)) else { continue };
        let each = readers.iter().map(|&i| {
            let layer = layers.iter().find(|l| l.node == i && l.slot.input == 1 && graph.nodes[i].inputs[0] == *value)?;
            let axis = reader_axis(model, &graph.nodes[i], layer)?;
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

/// The weight's axis of the channels that a layer reads.
fn reader_axis(model: &Model, node: &Node, layer: &Layer) -> Option<usize> {
    let size = model.weights.get(&layer.weight)?.size();
    let group = node.attributes.get_int("group", 1).ok()?;
    match node.kind() {
        "Conv" if group == 1 => Some(layer.slot.in_axis),
        // Each channel has a filter of its own.
        "Conv" if group == size[0] && size[1] == 1 => Some(layer.slot.out_axis),
        "MatMul" => Some(layer.slot.in_axis),
        "Gemm" if node.attributes.get_int("transA", 0).ok()? == 0 => Some(layer.slot.in_axis),
        _ => None,
    }
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
        let bias = node.inputs.get(2).filter(|b| !b.is_empty());
        match node.kind() {
            "Relu" | "LeakyRelu" | "Identity" | "Dropout" | "MaxPool" | "AveragePool" | "GlobalAveragePool" => {}
            "Add" => {
                let (other, stored) = match (vector(&node.inputs[0]), vector(&node.inputs[1])) {
                    (true, false) => (1, 0),
                    (false, true) => (0, 1),
                    _ => return None,
                };
                writers.push((node.inputs[stored].clone(), 0));
                value = &node.inputs[other];
                // A vector added along the last axis is one of channels only to matrix products.
                let inner = &model.graph.nodes[*producers.get(value)?];
                if used(value) != 1 || inner.kind() != "MatMul" {
                    return None;
                }
                continue;
            }
            "Conv" | "Gemm" | "MatMul" => {
                let layer = model.layers().into_iter().find(|l| model.graph.nodes[l.node].name == node.name)?;
                let factors = ["alpha", "beta"].iter().all(|f| node.attributes.get_float(f, 1.0).is_ok_and(|v| v == 1.0));
                let size = model.weights.get(&layer.weight)?.size();
                if !own(&layer.weight) || size[layer.slot.out_axis] != channels || !factors || bias.is_some_and(|b| !vector(b)) {
                    return None;
                }
                writers.insert(0, (layer.weight.clone(), layer.slot.out_axis));
                writers.extend(bias.map(|b| (b.clone(), 0)));
                return Some((writers, false));
            }
            "LayerNormalization" => {
                if !vector(&node.inputs[1]) || bias.is_some_and(|b| !vector(b)) {
                    return None;
                }
                writers.insert(0, (node.inputs[1].clone(), 0));
                writers.extend(bias.map(|b| (b.clone(), 0)));
                return Some((writers, true));
            }
            _ => return None,
        }
        value = &node.inputs[0];
        if used(value) != 1 || model.graph.is_output(value) {
            return None;
        }
    }
}
