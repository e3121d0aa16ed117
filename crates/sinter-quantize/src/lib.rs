//! The stage `quantize`: weights and activations on integer grids.
//!
//! Batch normalisation is folded first. Ranges of activations come from one streaming pass over calibration samples (see
//! [`calibrate`]); weights get symmetric grids per channel, or per tensor where a codebook must keep its number of values. With
//! `mode: qat` the model then trains with the grids in place (Jacob et al., 2018), learning from the float model by default.

pub mod calibrate;
mod config;
mod placement;

pub use config::{Calibration, GridText, Mode, QuantizeConfig};
pub use placement::{Placement, place};

use std::collections::BTreeMap;

use sinter_data::{Dataset, Order, Split};
use sinter_exec::Runner;
use sinter_model::{Grid, GridShape, Layer, Levels, Mode as RunMode, Model, fold_batch_norm, to_f32s};
use sinter_train::{Context, DistillFrom, FitConfig, Stage, StageError, TeacherRef, fit};
use tch::Tensor;

use calibrate::Observer;

impl Stage for QuantizeConfig {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        self.check_config(model)?;
        if self.activations.is_some() && data.train.is_empty() && data.validation.is_empty() {
            return Err(StageError::config("activations", "calibration needs training samples, and there are none"));
        }
        if self.mode == Mode::Qat {
            self.fit_config().check("finetune", data)?;
        }
        Ok(())
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        if self.mode == Mode::Qat { self.fit_config().teachers() } else { vec![] }
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        if model.layers().iter().any(|l| model.weights[&l.weight].grid().is_some()) {
            return Err(StageError::config("", "the model is already quantized: remove the second `quantize` stage"));
        }
        let folded = fold_batch_norm(&mut model)?;
        if folded > 0 {
            context.note(format!("{folded} batch normalisations folded"));
        }
        if let Some(activations) = self.activations {
            let split = if context.data.train.is_empty() { &context.data.validation } else { &context.data.train };
            let samples = split.sample(self.samples, context.seed);
            let grids = self.activation_grids(&model, activations, &samples, context)?;
            model.activations = grids;
        }
        for layer in model.layers() {
            self.quantize_weight(&mut model, &layer)?;
        }
        let clustered = model.weights.values().filter(|w| w.codebook().is_some()).count();
        if self.weights.per_channel && clustered > 0 {
            context.note(format!(
                "one scale a tensor for {clustered} clustered layers: a scale a channel would part their shared values"
            ));
        }
        if self.mode == Mode::Qat {
            fit(&mut model, &self.fit_config(), context)?;
        }
        quantize_biases(&mut model)?;
        Ok(model)
    }
}

impl QuantizeConfig {
    /// Training for `mode: qat`: one tenth of the usual rate, from the float model, unless the user says otherwise.
    fn fit_config(&self) -> FitConfig {
        let default = || FitConfig { lr: 1e-4, distill: Some(DistillFrom::default()), ..FitConfig::epochs(2) };
        self.finetune.clone().unwrap_or_else(default)
    }

    fn quantize_weight(&self, model: &mut Model, layer: &Layer) -> Result<(), StageError> {
        let weight = model.weight_mut(&layer.weight)?;
        let value = weight.effective().map_err(StageError::weight(&layer.weight))?.f_detach()?;
        // One scale for all keeps the number of distinct values that clustering reached.
        let shape = if self.weights.per_channel && weight.codebook().is_none() {
            GridShape::Channel(layer.slot.out_axis)
        } else {
            GridShape::Tensor
        };
        let grid = weight_grid(&value, self.weights.bits, shape).map_err(StageError::weight(&layer.weight))?;
        weight.quantize(grid).map_err(StageError::weight(&layer.weight))
    }

    fn activation_grids(
        &self,
        model: &Model,
        text: GridText,
        samples: &Split,
        context: &Context,
    ) -> Result<BTreeMap<String, Grid>, StageError> {
        let placement = place(model);
        let mut observers: BTreeMap<&str, Observer> =
            placement.own.iter().map(|name| (name.as_str(), Observer::new(self.calibrate))).collect();
        let runner = tch::no_grad(|| Runner::new(model))?;
        let mut failed = None;
        let mut integers = std::collections::BTreeSet::new();
        let (mut seen, all) = (0, samples.len());
        for batch in samples.batches(64, Order::Stored) {
            let batch = batch?;
            tch::no_grad(|| {
                runner.run_tapped(&[batch.x.shallow_clone()], RunMode::Predict, &mut |name, value| {
                    if value.kind() != tch::Kind::Float {
                        integers.insert(name.to_string());
                    } else if let Some(observer) = observers.get_mut(name) {
                        match to_f32s(value) {
                            Ok(values) => observer.observe(&values),
                            Err(e) => failed = Some(e),
                        }
                    }
                })
            })?;
            seen += batch.x.size()[0] as usize;
            context.progress("calibration", seen, all);
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let mut grids = BTreeMap::new();
        for (name, observer) in observers.iter().filter(|(name, _)| !integers.contains(**name)) {
            let (low, high) = observer.range(text.bits);
            let grid = Grid::affine(text.bits, text.levels, low, high).map_err(StageError::weight(name))?;
            grids.insert(name.to_string(), grid);
        }
        // What only moves values takes the grid of what it moves.
        for (name, from) in &placement.shared {
            if let Some(grid) = grids.get(from).filter(|_| !integers.contains(name)).map(Grid::copy) {
                grids.insert(name.clone(), grid);
            }
        }
        Ok(grids)
    }
}

/// A symmetric grid for a weight: to the largest magnitude from 8 bits on, else where the squared error is least.
fn weight_grid(value: &Tensor, bits: u8, shape: GridShape) -> Result<Grid, sinter_model::OpError> {
    let rows = match shape {
        GridShape::Tensor => value.f_reshape([1, -1])?,
        GridShape::Channel(axis) => value.f_movedim_int(axis as i64, 0)?.f_reshape([value.size()[axis], -1])?,
    };
    let top = rows.f_abs()?.f_amax([1], false)?;
    let magnitude = to_f32s(&top)?;
    if bits >= 8 {
        return Grid::symmetric(bits, shape, &magnitude);
    }
    let mut best = vec![(f32::INFINITY, 1.0f32); magnitude.len()];
    let row_shape = if shape == GridShape::Tensor { shape } else { GridShape::Channel(0) };
    for step in 0..=40 {
        let share = 1.0 - 0.018 * step as f32;
        let trial: Vec<f32> = magnitude.iter().map(|m| m * share).collect();
        let rounded = Grid::symmetric(bits, row_shape, &trial)?.apply(&rows)?;
        let error = rounded.f_sub(&rows)?.f_square()?.f_sum_dim_intlist(1, false, tch::Kind::Float)?;
        for (b, e) in best.iter_mut().zip(to_f32s(&error)?) {
            if e < b.0 {
                *b = (e, share);
            }
        }
    }
    let chosen: Vec<f32> = magnitude.iter().zip(&best).map(|(m, b)| m * b.1).collect();
    Grid::symmetric(bits, shape, &chosen)
}

/// Biases go to 32 bits at the product of the scales of input and weight, as integer kernels add them.
fn quantize_biases(model: &mut Model) -> Result<(), StageError> {
    for layer in model.layers() {
        let node = &model.graph.nodes[layer.node];
        // Kernels take the bias at exactly that scale: where another reader or a factor would want another, it stays float.
        let readers = model.graph.consumers();
        let once = |name: &String| readers.get(name.as_str()).is_some_and(|r| r.len() == 1);
        let factors = ["alpha", "beta"].iter().all(|f| matches!(node.attributes.get_float(f, 1.0), Ok(v) if v == 1.0));
        if !factors || !once(&layer.weight) || layer.bias.as_ref().is_some_and(|b| !once(b)) {
            continue;
        }
        let (Some(bias), Some(input)) = (&layer.bias, model.activations.get(&node.inputs[0])) else { continue };
        let Some(grid) = model.weight(&layer.weight)?.grid() else { continue };
        let input_scale = input.scales()?[0];
        let weight_scales = grid.scales()?;
        // Sixteen bits say more of a bias than eight-bit weights leave to tell.
        model.weight_mut(bias)?.halve();
        let value = model.weight(bias)?.effective().map_err(StageError::weight(bias))?.f_detach()?;
        let n = value.numel();
        if value.dim() != 1 || (weight_scales.len() > 1 && weight_scales.len() != n) {
            continue;
        }
        let scales: Vec<f32> = (0..n).map(|i| input_scale * weight_scales[i % weight_scales.len()]).collect();
        // Beyond 24 bits float32 can't tell the integers apart (a dead channel has a tiny scale): then too it stays float.
        let exact = to_f32s(&value)?.iter().zip(&scales).all(|(b, s)| (b / s).abs() < 16_777_216.0);
        if !exact {
            continue;
        }
        let shape = if weight_scales.len() == 1 { GridShape::Tensor } else { GridShape::Channel(0) };
        let scales = if shape == GridShape::Tensor { scales[..1].to_vec() } else { scales };
        let grid = Grid::new(32, Levels::Symmetric, shape, &scales, &vec![0; scales.len()]).map_err(StageError::weight(bias))?;
        model.weight_mut(bias)?.quantize(grid).map_err(StageError::weight(bias))?;
    }
    Ok(())
}
