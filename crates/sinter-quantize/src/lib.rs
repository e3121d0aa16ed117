//! The stage `quantize`: weights and activations on integer grids.
//!
//! Batch normalisation is folded first. Ranges of activations come from one streaming pass over calibration samples (see
//! [`calibrate`]); weights get symmetric grids per channel or group, or per tensor where a codebook must keep its number of values.
//! Below 8 bits they are rounded second-order (see [`gptq`]), and biases take back what rounding adds to the mean. With `mode: qat` the
//! model then trains with the grids in place (Jacob et al., 2018) and learns their scales, from the float model by default. The guard
//! `accuracy_drop` lifts the layers that cost too much.

mod activations;
mod bias;
pub mod calibrate;
mod config;
mod dynamic;
pub mod gptq;
mod guard;
mod learned;
mod lift;
mod mixed;
mod normalize;
mod placement;
mod profile;
mod ranges;
mod read_through;
mod scaling;
mod statistics;
mod tune;
mod weights;

pub use config::{
    Activations, Calibration, Choice, Format, LayerFormat, Mode, Number, QuantizeConfig, Reach, Rounding, Scales, Scaling,
};
pub use mixed::MixedConfig;

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::{Dataset, Split};
use sinter_model::{Layer, Model, fold_batch_norm};
use sinter_train::{Context, DistillFrom, FitConfig, Guide, Stage, StageError, TeacherRef, Unguided, fit_guided};
use tch::{Kind, Tensor};

use activations::Grids;
use lift::Lift;
use normalize::Positive;
use ranges::Ranges;
use statistics::Statistics;

impl Stage for QuantizeConfig {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        self.check_config(model)?;
        let empty = data.train.is_empty() && data.validation.is_empty();
        if empty && self.activations().calibrated().is_some() {
            return Err(StageError::config("activations", "calibration needs training samples, and there are none"));
        }
        if empty && self.accuracy_drop.is_some() {
            return Err(StageError::config("accuracy_drop", "quality is measured on training samples, and there are none"));
        }
        if self.mode == Mode::Qat {
            self.fit_config().check("finetune", data)?;
        }
        if self.tune_biases && !data.train.is_labelled() {
            return Err(StageError::config("tune_biases", "biases are tuned on labels, and the training samples have none"));
        }
        if self.tune_biases && self.mode == Mode::Qat {
            return Err(StageError::config("tune_biases", "`mode: qat` trains biases already"));
        }
        Ok(())
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        if self.mode == Mode::Qat { self.fit_config().teachers() } else { vec![] }
    }

    fn heeds_target(&self) -> bool {
        true
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        let config = self.on(context.target)?;
        if model.layers().iter().any(|l| model.weights[&l.weight].grid().is_some()) {
            return Err(StageError::config("", "the model is already quantized: remove the second `quantize` stage"));
        }
        let folded = fold_batch_norm(&mut model)?;
        if folded > 0 {
            context.note(format!("{folded} batch normalisations folded"));
        }
        if let Some(mixed) = &config.mixed {
            let layers: Vec<Layer> = model.layers().into_iter().filter(|l| config.weight_format(&model, l).is_some()).collect();
            let chosen = config.choose(mixed, &model, &layers, context)?;
            return Self { chosen, mixed: None, ..config }.quantize(model, context);
        }
        config.quantize(model, context)
    }
}

impl QuantizeConfig {
    /// The stage itself, on a model whose normalisations are folded and whose formats are known.
    fn quantize(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        let split = if context.data.train.is_empty() { &context.data.validation } else { &context.data.train };
        let samples = split.sample(self.samples, context.seed);
        self.scale(&mut model, &samples, context)?;
        let mut placement = self.activations().calibrated().map(|_| self.place(&model)).unwrap_or_default();
        let copies = placement.part(self, &mut model)?;
        if copies > 0 {
            context.note(format!("{copies} values are read in fewer bits by layers than by shortcuts and other operators"));
        }
        let float = model.copy();
        let layers: Vec<Layer> = model.layers().into_iter().filter(|l| self.weight_format(&model, l).is_some()).collect();
        let Statistics { ranges, means } =
            statistics::gather(&model, &placement.own, &layers, self.calibrate, &samples, context)?;
        self.quantize_weights(&mut model, &layers, &samples, context)?;
        let activations = self.activations().calibrated().map(|_| Grids { placement, ranges, levels: activations::levels(self) });
        if let Some(activations) = &activations {
            activations.set_all(self, &mut model)?;
            activations
                .ranges
                .iter()
                .filter_map(|(name, seen)| Some((name, seen.seen()?)))
                .for_each(|(name, seen)| context.range(name, seen));
        }
        let (learned, others): (Vec<Layer>, Vec<Layer>) =
            layers.into_iter().partition(|l| self.rounding(&model, l) == Rounding::Learned);
        if !samples.is_empty() {
            learned::round(&mut model, &float, &learned, &samples, context)?;
        }
        if self.correct_bias && self.mode == Mode::Ptq {
            self.correct_biases(&mut model, &float, &others, &means)?;
        }
        if self.tune_biases && self.mode == Mode::Ptq {
            tune::biases(&mut model, &samples, context)?;
        }
        if self.mode == Mode::Qat {
            self.train(&mut model, activations.as_ref(), &samples, context)?;
        }
        if self.activations() == Activations::Dynamic {
            let count = self.make_dynamic(&mut model)?;
            context.note(format!("{count} layers read values quantized by the range of each batch"));
        }
        if let Some(most) = self.accuracy_drop {
            let lift = Lift { config: self, float: &float, activations: activations.as_ref() };
            guard::hold(most.get(), &lift, &mut model, context)?;
        }
        bias::quantize(&mut model)?;
        Ok(model)
    }

    /// Training for `mode: qat`: one tenth of the usual rate, from the float model, unless the user says otherwise.
    fn fit_config(&self) -> FitConfig {
        let default = || FitConfig { lr: 1e-4, distill: Some(DistillFrom::default()), ..FitConfig::epochs(2) };
        self.finetune.clone().unwrap_or_else(default)
    }

    /// Puts every layer's weight on its grid.
    fn quantize_weights(
        &self,
        model: &mut Model,
        layers: &[Layer],
        samples: &Split,
        context: &Context,
    ) -> Result<(), StageError> {
        let formats: Vec<Option<Format>> = layers.iter().map(|l| self.weight_format(model, l)).collect();
        let second = layers.iter().filter(|l| self.rounding(model, l) == Rounding::Gptq);
        let second: BTreeSet<String> = second.map(|l| l.weight.clone()).collect();
        let hessians = match second.is_empty() || samples.is_empty() {
            true => BTreeMap::new(),
            false => {
                let reads = statistics::reads(model, &second, samples, context)?;
                reads.into_iter().map(|(name, reads)| (name, reads.product)).collect()
            }
        };
        let mut clustered = 0;
        for (i, (layer, format)) in layers.iter().zip(formats).enumerate() {
            let Some(format) = format else { continue };
            context.progress("quantization", i, layers.len());
            let at = StageError::weight(&layer.weight);
            let weight = model.weight_mut(&layer.weight)?;
            let before = weight.effective().map_err(&at)?.f_detach()?;
            let shared = weight.codebook().is_some();
            let hessian = hessians.get(&layer.weight);
            let importance = hessian.map(|h| spread_diagonal(layer, h, &before)).transpose().map_err(&at)?;
            match weights::weight_grid(layer.slot, &before, format, shared, importance.as_ref()).map_err(&at)? {
                None => {
                    if let Number::Half(half) = format.number {
                        weight.halve(half);
                    }
                }
                Some(grid) => {
                    clustered += usize::from(shared && format.reach != Reach::Tensor);
                    if let Some(hessian) = hessian {
                        let scale = grid.scale_of_each(&before.size()).and_then(|s| Ok(s.f_expand(before.size(), false)?));
                        let scale = scale.and_then(|s| layer.slot.matrix(&s)).map_err(&at)?;
                        let matrix = layer.slot.matrix(&before).map_err(&at)?;
                        let rounded = gptq::round(&matrix, hessian, &scale, grid.range());
                        let rounded = rounded.and_then(|r| layer.slot.from_matrix(&r, &before.size())).map_err(&at)?;
                        weight.set_latent(rounded).map_err(&at)?;
                    }
                    weight.quantize(grid).map_err(&at)?;
                }
            }
        }
        if clustered > 0 {
            context.note(format!(
                "one scale a tensor for {clustered} clustered layers: a scale a channel would part their shared values"
            ));
        }
        Ok(())
    }

    /// Takes from each layer's bias what rounding its weight adds to the mean. Learned rounding has seen to that already.
    fn correct_biases(
        &self,
        model: &mut Model,
        float: &Model,
        layers: &[Layer],
        means: &BTreeMap<String, Tensor>,
    ) -> Result<(), StageError> {
        for layer in layers {
            if let Some(mean) = means.get(&layer.weight) {
                let before = float.weight(&layer.weight)?.effective().map_err(StageError::weight(&layer.weight))?;
                bias::correct(model, layer, &before, mean)?;
            }
        }
        Ok(())
    }

    /// Trains with the grids in place; scales are learned unless the user wants otherwise.
    fn train(
        &self,
        model: &mut Model,
        activations: Option<&Grids>,
        samples: &Split,
        context: &Context,
    ) -> Result<(), StageError> {
        let widest = match self.batch_norm {
            Some(true) => 7,
            None if self.fit_config().batch_size > 1 => 3,
            _ => 0,
        };
        let normalised = normalize::insert(model, widest, samples)?;
        if normalised.is_empty() && self.batch_norm == Some(true) {
            context.note("`batch_norm` finds no convolution or dense layer with fewer than 8 bits and a scale a channel");
        }
        if self.scales == Scales::Learned {
            if let Some(activations) = activations {
                activations.unshare(model);
            }
            for (name, weight) in &mut model.weights {
                weight.grid_mut().map_or(Ok(()), |g| g.learn()).map_err(StageError::weight(name))?;
            }
            for (name, grid) in &mut model.activations {
                grid.learn().map_err(StageError::weight(name))?;
            }
        }
        let following = activations.filter(|_| self.scales == Scales::MovingAverage);
        let mut following = following.map(|grids| Ranges::new(grids, &context.data.train, context.seed));
        let other: &mut dyn Guide = match &mut following {
            Some(ranges) => ranges,
            None => &mut Unguided,
        };
        fit_guided(model, &self.fit_config(), context, &mut Positive { scales: &normalised, other })?;
        for (name, weight) in &mut model.weights {
            weight.grid_mut().map_or(Ok(()), |g| g.settle()).map_err(StageError::weight(name))?;
        }
        for (name, grid) in &mut model.activations {
            grid.settle().map_err(StageError::weight(name))?;
        }
        if !normalised.is_empty() {
            normalize::fold(model, &normalised, &context.data.train.sample(normalize::SAMPLES, context.seed))?;
        }
        if let Some(activations) = activations {
            activations.share(model);
        }
        Ok(())
    }
}

/// How much each weight's squared error counts: the Hessian's diagonal, in the weight's shape.
fn spread_diagonal(layer: &Layer, hessian: &Tensor, like: &Tensor) -> sinter_model::OpResult<Tensor> {
    let rows = like.size()[layer.slot.out_axis];
    let columns = hessian.size()[0];
    let diagonal = hessian.f_diagonal(0, 0, 1)?.f_to_kind(Kind::Float)?.f_expand([rows, columns], false)?;
    layer.slot.from_matrix(&diagonal, &like.size())
}
