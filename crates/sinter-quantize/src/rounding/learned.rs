//! Learned rounding (AdaRound; Nagel et al., 2020): whether each weight goes up or down is trained so that the layer's output changes
//! least, layer by layer, on what the layers before it give once they are rounded.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Inputs, Layer, Mode, Model, OpResult};
use sinter_train::{Context, StageError};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use super::RoundingMethod;

/// Samples a step.
const BATCH: i64 = 32;
const RATE: f64 = 1e-2;
/// The share of steps before decisions are asked for.
const FREE: f64 = 0.2;
/// How much indecision counts next to the error, which is 1 for rounding to nearest.
const PRESSURE: f64 = 1.0;
/// The stretched sigmoid reaches 0 and 1 (Louizos et al., 2018).
const STRETCH: (f64, f64) = (-0.1, 1.1);

/// Up or down is trained, layer by layer, so that each layer's output changes least (AdaRound; Nagel et al., 2020). The best below 8 bits for
/// layers of up to a million weights. Costs some hundred steps a layer, and its inputs and outputs for all calibration samples in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Learned {
    /// Steps a layer. Default: 800.
    pub steps: NonZeroUsize,
}

impl Default for Learned {
    fn default() -> Self {
        const { Self { steps: NonZeroUsize::new(800).unwrap() } }
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
    for layer in context.each("learned rounding", layers) {
        let node = &model.graph.nodes[layer.node];
        let read = values(model, &node.inputs[0], samples)?;
        let wanted = values(float, &node.outputs[0], samples)?;
        let at = StageError::weight(&layer.weight);
        if let (Some(read), Some(wanted)) = (read, wanted) {
            let rounded = decide(model, float, layer, (&read, &wanted), steps, context.seed).map_err(&at)?;
            model.weight_mut(&layer.weight)?.set_latent(rounded).map_err(&at)?;
        }
    }
    Ok(())
}

/// A value of the graph for all samples, in one tensor; `None` where the graph does not show it.
fn values(model: &Model, name: &str, samples: &Split) -> Result<Option<Tensor>, StageError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut parts = Vec::new();
    for batch in samples.batches(64, Order::Stored) {
        let batch = batch?;
        tch::no_grad(|| {
            runner.run_tapped(&batch.inputs, Mode::Predict, &mut |n, value| {
                if n == name {
                    parts.push(value.shallow_clone());
                }
                Ok(())
            })
        })?;
    }
    if parts.is_empty() { Ok(None) } else { Ok(Some(Tensor::f_cat(&parts, 0)?)) }
}

/// The rounded weight.
fn decide(
    model: &Model,
    float: &Model,
    layer: &Layer,
    (read, wanted): (&Tensor, &Tensor),
    steps: usize,
    seed: u64,
) -> OpResult<Tensor> {
    let node = &model.graph.nodes[layer.node];
    let Some(weight) = model.weights.get(&layer.weight) else { return Ok(Tensor::new()) };
    let Some(quantizer) = weight.quantizer() else { return weight.effective() };
    let Some(original) = float.weights.get(&layer.weight) else { return weight.effective() };
    let original = original.effective()?.f_detach()?;
    let scale = quantizer.scale_of_each(&original.size())?;
    let (low, high) = quantizer.range();
    let ratio = original.f_div(&scale)?;
    let floor = ratio.f_floor()?;
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
    let quantized = |up: &Tensor| -> OpResult<Tensor> { Ok(floor.f_add(up)?.f_clamp(low as f64, high as f64)?.f_mul(&scale)?) };
    let error = |weight: &Tensor, x: &Tensor, y: &Tensor| -> OpResult<Tensor> {
        Ok(forward(weight, x)?.f_sub(y)?.f_square()?.f_mean(Kind::Float)?)
    };
    let count = read.size()[0].min(wanted.size()[0]);
    let most = (count).min(256);
    let (few, few_wanted) = (read.f_narrow(0, 0, most)?, wanted.f_narrow(0, 0, most)?);
    let nearest = quantized(&ratio.f_round()?.f_sub(&floor)?)?;
    let start = tch::no_grad(|| error(&nearest, &few, &few_wanted))?.f_double_value(&[])?;
    if start.is_nan() || start <= 0.0 {
        return Ok(nearest);
    }
    let store = nn::VarStore::new(Device::Cpu);
    let share = ratio.f_sub(&floor)?.f_sub_scalar(STRETCH.0)?.f_div_scalar(STRETCH.1 - STRETCH.0)?;
    let choice = store.root().f_var_copy("choice", &share.f_logit(1e-6)?)?;
    let mut optimizer = nn::Adam::default().build(&store, RATE)?;
    let soft = |choice: &Tensor| -> OpResult<Tensor> {
        let wide = choice.f_sigmoid()?.f_mul_scalar(STRETCH.1 - STRETCH.0)?.f_add_scalar(STRETCH.0)?;
        Ok(wide.f_clamp(0.0, 1.0)?)
    };
    // The same seed takes the same samples.
    let mut rng = fastrand::Rng::with_seed(seed);
    for step in 0..steps {
        let picked: Vec<i64> = (0..BATCH).map(|_| rng.i64(0..count)).collect();
        let picked = Tensor::f_from_slice(&picked)?;
        let up = soft(&choice)?;
        let (x, y) = (read.f_index_select(0, &picked)?, wanted.f_index_select(0, &picked)?);
        let mut loss = error(&quantized(&up)?, &x, &y)?.f_div_scalar(start)?;
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
    let learned = quantized(&soft(&choice)?.f_ge(0.5)?.f_to_kind(Kind::Float)?)?.f_detach()?;
    let end = tch::no_grad(|| error(&learned, &few, &few_wanted))?.f_double_value(&[])?;
    Ok(if end < start { learned } else { nearest })
}
