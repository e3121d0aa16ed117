//! Learned rounding (AdaRound; Nagel et al., 2020): whether each weight goes up or down is trained so that the layer's output changes
//! least, layer by layer, on what the layers before it give once they are rounded.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Inputs, Layer, Mode, Model, OpError, OpResult, Weight};
use sinter_train::{Context, StageError, WeightByWeight};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use super::RoundingMethod;

/// Samples a step.
const BATCH: i64 = 32;
const RATE: f64 = 1e-2;
/// Without the noise of samples larger steps are sure ones.
const SURE_RATE: f64 = 3e-2;
/// The share of steps before decisions are asked for.
const FREE: f64 = 0.2;
/// How much indecision counts next to the error, which is 1 for rounding to nearest.
const PRESSURE: f64 = 1.0;
/// The stretched sigmoid reaches 0 and 1 (Louizos et al., 2018).
const STRETCH: (f64, f64) = (-0.1, 1.1);

/// Up or down is trained, layer by layer, so that each layer's output changes least (AdaRound; Nagel et al., 2020). The best below 8 bits for
/// models of up to a million weights. Costs some thousand steps a layer, each of a product of its weight with a matrix of its fan-in; a layer with groups is run on samples, and
/// keeps its inputs and outputs for all calibration samples in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Learned {
    /// Steps a layer; a layer with groups, where a step runs it on samples, takes two fifths of them. Default: 2000.
    pub steps: NonZeroUsize,
}

impl Default for Learned {
    fn default() -> Self {
        const { Self { steps: NonZeroUsize::new(2000).unwrap() } }
    }
}

impl RoundingMethod for Learned {
    fn decides_last(&self) -> bool {
        true
    }

    fn decide(
        &self,
        model: &mut Model,
        float: &Model,
        layers: &[Layer],
        samples: &Split,
        context: &Context,
    ) -> Result<(), StageError> {
        round(model, float, layers, samples, self.steps.get(), context)
    }
}

/// Decides the rounding of every one of these layers, whose weights are quantized already. `float` is the model before, with the
/// same nodes.
fn round(
    model: &mut Model,
    float: &Model,
    layers: &[Layer],
    samples: &Split,
    steps: usize,
    context: &Context,
) -> Result<(), StageError> {
    let mut work = WeightByWeight::begin(context, layers.len());
    for layer in context.each("learned rounding", layers) {
        let at = StageError::weight(&layer.weight);
        if work.restore(model, &layer.weight) {
            continue;
        }
        let rounded = match moments(model, float, layer, samples)? {
            Some(moments) => by_moments(model, float, layer, &moments, steps).map_err(&at)?,
            None => {
                let node = &model.graph.nodes[layer.node];
                let read = values(model, &node.inputs[0], samples)?;
                let wanted = values(float, &node.outputs[0], samples)?;
                let (Some(read), Some(wanted)) = (read, wanted) else { continue };
                by_samples(model, float, layer, (&read, &wanted), steps, context.seed).map_err(&at)?
            }
        };
        if let Some(rounded) = rounded {
            model.weight_mut(&layer.weight)?.set_latent(rounded).map_err(&at)?;
        }
        work.did(context, model, &layer.weight)?;
    }
    work.end(context, model);
    Ok(())
}

/// What the error of a layer's output depends on where its weight is one matrix. With `x` what the layer reads once the layers before it are
/// rounded, `e` how far that is from what it read before, and `D` how far the weight `W` is moved, the error is `|D x + W e|^2` over all positions:
/// `tr(D X D') + 2 tr(D P') + c`.
struct Moments {
    /// `X`: the sum of `x x'`.
    read: Tensor,
    /// `P`: `W` times the sum of `e x'`.
    moved: Tensor,
    /// `c`: what was lost before this layer.
    before: f64,
}

impl Moments {
    /// Of some positions: what the layer reads there, `[positions, fan-in]`, how far that is from what it read before, and its weight as a matrix.
    fn of(x: &Tensor, off: &Tensor, weight: &Tensor) -> OpResult<Self> {
        let lost = off.f_matmul(&weight.f_tr()?)?;
        Ok(Self {
            read: x.f_tr()?.f_matmul(x)?,
            moved: lost.f_tr()?.f_matmul(x)?,
            before: lost.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?,
        })
    }

    fn plus(&self, other: &Self) -> OpResult<Self> {
        Ok(Self {
            read: self.read.f_add(&other.read)?,
            moved: self.moved.f_add(&other.moved)?,
            before: self.before + other.before,
        })
    }
}

/// The rows that a layer's weight multiplies when it reads `value`; `None` where it is not one matrix.
fn rows_of(runner: &Runner, layer: &Layer, value: &Tensor) -> OpResult<Option<Tensor>> {
    let mut rows = None;
    runner.columns(layer, value, &mut |_, found| {
        rows = Some(found.f_to_kind(Kind::Float)?);
        Ok(())
    })?;
    Ok(rows)
}

/// Elements of what a layer multiplies that are laid out at once.
const LAID_OUT: i64 = 1 << 24;

/// The moments of a layer over all samples; `None` where its weight is not one matrix.
fn moments(model: &Model, float: &Model, layer: &Layer, samples: &Split) -> Result<Option<Moments>, StageError> {
    let name = &model.graph.nodes[layer.node].inputs[0];
    let at = StageError::weight(&layer.weight);
    let Some(original) = float.weights.get(&layer.weight).filter(|_| layer.slot.input == 1) else { return Ok(None) };
    let weight = layer.slot.matrix(&original.effective().map_err(&at)?.f_detach()?).map_err(&at)?;
    let (rounded_runner, float_runner) = tch::no_grad(|| Ok::<_, StageError>((Runner::new(model)?, Runner::new(float)?)))?;
    let mut found: Option<Moments> = None;
    for batch in samples.batches(64, Order::Stored) {
        let batch = batch?;
        let seen = tch::no_grad(|| {
            let seen = |model: &Model, runner: &Runner| value_of(model, runner, &batch.inputs, name);
            Ok::<_, StageError>((seen(model, &rounded_runner)?, seen(float, &float_runner)?))
        })?;
        let (Some(rounded), Some(before)) = seen else { return Ok(None) };
        if rounded.dim() < 2 {
            return Ok(None);
        }
        let mut add = |from: i64, count: i64| -> OpResult<Option<i64>> {
            let rows = |value: &Tensor, runner: &Runner| rows_of(runner, layer, &value.f_narrow(0, from, count)?);
            let (Some(x), Some(y)) = (rows(&rounded, &rounded_runner)?, rows(&before, &float_runner)?) else { return Ok(None) };
            let part = Moments::of(&x, &x.f_sub(&y)?, &weight)?;
            found = Some(match found.take() {
                None => part,
                Some(all) => all.plus(&part)?,
            });
            Ok(Some(x.numel() as i64))
        };
        let count = rounded.size().first().copied().unwrap_or(0).min(before.size().first().copied().unwrap_or(0));
        // One sample tells how many can be laid out at once.
        let mut from = 0;
        let mut part = 1;
        while from < count {
            let now = part.min(count - from);
            let Some(laid_out) = tch::no_grad(|| add(from, now)).map_err(&at)? else { return Ok(None) };
            from += now;
            part = (LAID_OUT / (laid_out / now).max(1)).max(1);
        }
    }
    Ok(found)
}

/// A value of the graph for a batch; where one run shows all of it, what comes after is not computed.
fn value_of(model: &Model, runner: &Runner, inputs: &[Tensor], name: &str) -> Result<Option<Tensor>, StageError> {
    let (mut parts, mut whole) = (Vec::new(), false);
    let length = |t: &Tensor| t.size().first().copied();
    let done = runner.run_tapped(inputs, Mode::Predict, &mut |n, value| {
        if n == name {
            parts.push(value.shallow_clone());
            // Sequences show it at every step, and models of one sample for each.
            whole = !model.graph.takes_sequences() && length(value) == inputs.first().and_then(length);
        }
        if whole { Err(OpError::Invalid("the rest is not needed".into())) } else { Ok(()) }
    });
    if !whole {
        done?;
    }
    if parts.is_empty() { Ok(None) } else { Ok(Some(Tensor::f_cat(&parts, 0)?)) }
}

/// A value of the graph for all samples, in one tensor; `None` where the graph does not show it.
fn values(model: &Model, name: &str, samples: &Split) -> Result<Option<Tensor>, StageError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut parts = Vec::new();
    for batch in samples.batches(64, Order::Stored) {
        let batch = batch?;
        parts.extend(tch::no_grad(|| value_of(model, &runner, &batch.inputs, name))?);
    }
    if parts.is_empty() { Ok(None) } else { Ok(Some(Tensor::f_cat(&parts, 0)?)) }
}

/// A weight between its two roundings.
struct Choice {
    /// As it was.
    original: Tensor,
    /// In steps of its scale.
    ratio: Tensor,
    floor: Tensor,
    scale: Tensor,
    range: (f64, f64),
}

impl Choice {
    /// `None` where a weight has no quantizer.
    fn of(model: &Model, float: &Model, layer: &Layer) -> OpResult<Option<Self>> {
        let quantizer = model.weights.get(&layer.weight).and_then(Weight::quantizer);
        let (Some(quantizer), Some(original)) = (quantizer, float.weights.get(&layer.weight)) else { return Ok(None) };
        let original = original.effective()?.f_detach()?;
        let scale = quantizer.scale_of_each(&original.size())?;
        let (low, high) = quantizer.range();
        let ratio = original.f_div(&scale)?;
        Ok(Some(Self { floor: ratio.f_floor()?, ratio, original, scale, range: (low as f64, high as f64) }))
    }

    /// The weight where `up` of a step is added to the lower one.
    fn weight(&self, up: &Tensor) -> OpResult<Tensor> {
        Ok(self.floor.f_add(up)?.f_clamp(self.range.0, self.range.1)?.f_mul(&self.scale)?)
    }

    fn nearest(&self) -> OpResult<Tensor> {
        self.weight(&self.ratio.f_round()?.f_sub(&self.floor)?)
    }

    /// Trains which way each goes. `loss` is the error of a weight as a share of that of rounding to nearest, or what has its gradient.
    fn learn(&self, steps: usize, rate: f64, loss: &mut dyn FnMut(&Tensor) -> OpResult<Tensor>) -> OpResult<Tensor> {
        let store = nn::VarStore::new(Device::Cpu);
        let share = self.ratio.f_sub(&self.floor)?.f_sub_scalar(STRETCH.0)?.f_div_scalar(STRETCH.1 - STRETCH.0)?;
        let choice = store.root().f_var_copy("choice", &share.f_logit(1e-6)?)?;
        let mut optimizer = nn::Adam::default().build(&store, rate)?;
        let soft = |choice: &Tensor| -> OpResult<Tensor> {
            let wide = choice.f_sigmoid()?.f_mul_scalar(STRETCH.1 - STRETCH.0)?.f_add_scalar(STRETCH.0)?;
            Ok(wide.f_clamp(0.0, 1.0)?)
        };
        for step in 0..steps {
            let up = soft(&choice)?;
            let mut loss = loss(&self.weight(&up)?)?;
            let done = step as f64 / steps as f64;
            if done > FREE {
                let sharp = 20.0 - 18.0 * (done - FREE) / (1.0 - FREE);
                let undecided = up.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_abs()?.f_pow_tensor_scalar(sharp)?;
                let undecided = undecided.f_mean(Kind::Float)?.f_neg()?.f_add_scalar(1.0)?;
                loss = loss.f_add(&undecided.f_mul_scalar(PRESSURE)?)?;
            }
            optimizer.zero_grad();
            loss.f_backward()?;
            optimizer.step();
        }
        Ok(self.weight(&soft(&choice)?.f_ge(0.5)?.f_to_kind(Kind::Float)?)?.f_detach()?)
    }
}

/// The rounded weight, by the moments of what the layer reads: a step costs the same however many samples there are.
fn by_moments(model: &Model, float: &Model, layer: &Layer, moments: &Moments, steps: usize) -> OpResult<Option<Tensor>> {
    let Some(choice) = Choice::of(model, float, layer)? else { return Ok(None) };
    let original = layer.slot.matrix(&choice.original)?;
    // Half the gradient by the weight.
    let slope = |off: &Tensor| -> OpResult<Tensor> { Ok(off.f_matmul(&moments.read)?.f_add(&moments.moved)?) };
    let error = |weight: &Tensor| -> OpResult<f64> {
        let off = layer.slot.matrix(weight)?.f_sub(&original)?;
        let both = slope(&off)?.f_add(&moments.moved)?;
        Ok(off.f_mul(&both)?.f_sum(Kind::Double)?.f_double_value(&[])? + moments.before)
    };
    let nearest = choice.nearest()?;
    let start = error(&nearest)?;
    if start.is_nan() || start <= 0.0 {
        return Ok(Some(nearest));
    }
    let learned = choice.learn(steps, SURE_RATE, &mut |weight| {
        let off = layer.slot.matrix(weight)?.f_sub(&original)?;
        // A product with the gradient has that gradient, and costs one product of matrices and not two.
        let gradient = tch::no_grad(|| slope(&off.f_detach()?))?.f_mul_scalar(2.0 / start)?;
        Ok(off.f_mul(&gradient)?.f_sum(Kind::Float)?)
    })?;
    let end = error(&learned)?;
    tracing::debug!(
        "`{}`: {:.4} of the error of rounding to nearest, {:.4} of it from layers before",
        layer.name,
        end / start,
        moments.before / start
    );
    Ok(Some(if end < start { learned } else { nearest }))
}

/// The rounded weight, by running the layer on samples: for layers whose weight is not one matrix.
fn by_samples(
    model: &Model,
    float: &Model,
    layer: &Layer,
    (read, wanted): (&Tensor, &Tensor),
    steps: usize,
    seed: u64,
) -> OpResult<Option<Tensor>> {
    let node = &model.graph.nodes[layer.node];
    let Some(choice) = Choice::of(model, float, layer)? else { return Ok(None) };
    let others: BTreeMap<usize, Tensor> = (0..node.inputs.len())
        .filter(|&i| i != 0 && i != layer.slot.input)
        .filter_map(|i| Some((i, model.weights.get(&node.inputs[i])?.effective().ok()?.detach())))
        .collect();
    let forward = |weight: &Tensor, x: &Tensor| -> OpResult<Tensor> {
        let input = |i: usize| match i {
            0 => Some(x.shallow_clone()),
            i if i == layer.slot.input => Some(weight.shallow_clone()),
            i => others.get(&i).map(Tensor::shallow_clone),
        };
        let inputs: Vec<Option<Tensor>> = (0..node.inputs.len()).map(input).collect();
        Ok(node.op.forward(&Inputs(&inputs), Mode::Predict)?.swap_remove(0))
    };
    let error = |weight: &Tensor, x: &Tensor, y: &Tensor| -> OpResult<Tensor> {
        Ok(forward(weight, x)?.f_sub(y)?.f_square()?.f_mean(Kind::Float)?)
    };
    let count = read.size()[0].min(wanted.size()[0]);
    let most = (count).min(256);
    let (few, few_wanted) = (read.f_narrow(0, 0, most)?, wanted.f_narrow(0, 0, most)?);
    let nearest = choice.nearest()?;
    let start = tch::no_grad(|| error(&nearest, &few, &few_wanted))?.f_double_value(&[])?;
    if start.is_nan() || start <= 0.0 {
        return Ok(Some(nearest));
    }
    // The same seed takes the same samples.
    let mut rng = fastrand::Rng::with_seed(seed);
    let learned = choice.learn((steps * 2 / 5).max(1), RATE, &mut |weight| {
        let picked: Vec<i64> = (0..BATCH).map(|_| rng.i64(0..count)).collect();
        let picked = Tensor::f_from_slice(&picked)?;
        let (x, y) = (read.f_index_select(0, &picked)?, wanted.f_index_select(0, &picked)?);
        Ok(error(weight, &x, &y)?.f_div_scalar(start)?)
    })?;
    let end = tch::no_grad(|| error(&learned, &few, &few_wanted))?.f_double_value(&[])?;
    Ok(Some(if end < start { learned } else { nearest }))
}
