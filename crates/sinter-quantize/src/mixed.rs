//! Mixed precision: how many bits each layer's weight gets when all together may take so much.
//!
//! One scan rounds each layer alone to each width and measures what that does to the outputs and to the quality. What layers do to the
//! outputs adds up nearly, so the widths of least total error within a budget are found by a price for a byte, at which every layer
//! chooses for itself (Shoham and Gersho, 1988; for networks, Dong et al., HAWQ-V2, 2020).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinter_data::{Order, Split};
use sinter_estimate::{costs, footprint};
use sinter_exec::Runner;
use sinter_model::{Bytes, GridShape, Joules, Layer, Levels, Mode, Model, Ratio};
use sinter_train::{Context, Probe, Quality, StageError, evaluate};
use tch::Kind;

use crate::config::{Format, Number, QuantizeConfig};
use crate::weights::weight_grid;

/// Samples that quality and outputs are measured on: of the validation split, or else of the training split.
const SAMPLES: usize = 1000;

/// Widths that layers choose from, under one budget.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedConfig {
    /// Bits that a layer's weight may have. Default: 8, 4 and 2.
    #[serde(default = "widths")]
    pub widths: Vec<u8>,
    /// The most bytes that the weights of these layers may take, scales included, before entropy coding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// The most that quality may fall, in the metric's own unit: the fewest bytes at which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<Ratio>,
    /// The most energy of an inference on the pipeline's target: its physical floor, arithmetic and bytes moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Joules>,
}

fn widths() -> Vec<u8> {
    vec![8, 4, 2]
}

impl MixedConfig {
    pub(crate) fn check(&self) -> Result<(), StageError> {
        if self.widths.is_empty() || self.widths.iter().any(|w| !(2..=8).contains(w)) {
            return Err(StageError::config("mixed.widths", "widths are from 2 to 8 bits, such as [8, 4, 2]"));
        }
        let budgets = [self.size.is_some(), self.accuracy_drop.is_some(), self.energy.is_some()];
        match budgets.iter().filter(|b| **b).count() {
            1 => Ok(()),
            _ => Err(StageError::config("mixed", "write exactly one budget: `size`, `accuracy_drop` or `energy`")),
        }
    }
}

/// What one layer costs at one width.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Trial {
    bits: u8,
    /// Squared change of the outputs, as a part of their square.
    error: f64,
    /// Quality lost, in the metric's unit.
    lost: f64,
    bytes: u64,
}

/// A layer and its trials, the widest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Curve {
    layer: String,
    weight: String,
    trials: Vec<Trial>,
}

impl QuantizeConfig {
    /// Chooses a format for the weight of each layer that has no override of its own; by the weight's name.
    pub(crate) fn choose(
        &self,
        mixed: &MixedConfig,
        model: &Model,
        layers: &[Layer],
        context: &Context,
    ) -> Result<BTreeMap<String, Format>, StageError> {
        let free: Vec<&Layer> = layers.iter().filter(|l| !self.names(model, l)).collect();
        let split = if context.data.validation.is_empty() { &context.data.train } else { &context.data.validation };
        let split = split.sample(SAMPLES, context.seed);
        let curves = self.scan(mixed, model, &free, &split, context)?;
        let chosen = match (mixed.size, mixed.accuracy_drop, mixed.energy) {
            (Some(size), ..) => within(&curves, size.0).map_err(|least| {
                let reason = format!("the weights take at least {} at {} bits", Bytes(least), narrowest(mixed));
                StageError::config("mixed.size", reason)
            })?,
            (_, Some(most), _) => self.hold(&curves, most.get(), model, &free, &split, context)?,
            (_, _, Some(most)) => {
                let bytes = self.bytes_for(most, &curves, model, &free, context)?;
                within(&curves, bytes).map_err(|_| {
                    let reason = format!("{most} is not enough even with {} bits for every weight", narrowest(mixed));
                    StageError::config("mixed.energy", reason)
                })?
            }
            _ => vec![0; curves.len()],
        };
        let picked = curves.iter().zip(&chosen).map(|(c, &i)| (&c.layer, c.trials[i]));
        let text = picked.clone().map(|(layer, t)| format!("{layer} {}", t.bits)).collect::<Vec<_>>().join(", ");
        let bytes: u64 = picked.map(|(_, t)| t.bytes).sum();
        context.note(format!("bits chosen for {} of weights: {text}", Bytes(bytes)));
        let formats = curves.iter().zip(chosen).map(|(c, i)| (c.weight.clone(), self.with_bits(c.trials[i].bits)));
        Ok(formats.collect())
    }

    fn with_bits(&self, bits: u8) -> Format {
        Format { number: Number::Integer { bits, levels: Levels::Signed }, ..self.weights() }
    }

    /// The curve of every layer; the scan is remembered for later runs that begin with the same model.
    fn scan(
        &self,
        mixed: &MixedConfig,
        model: &Model,
        layers: &[&Layer],
        split: &Split,
        context: &Context,
    ) -> Result<Vec<Curve>, StageError> {
        let mut widths = mixed.widths.clone();
        widths.sort_unstable_by(|a, b| b.cmp(a));
        widths.dedup();
        let what = format!("bits-{}-{:?}", serde_json::to_string(&self.weights()).unwrap_or_default(), widths);
        let remembered = context.memory.recall(&what).and_then(|text| serde_json::from_str::<Vec<Curve>>(&text).ok());
        let known = |curves: &Vec<Curve>| curves.iter().map(|c| &c.weight).eq(layers.iter().map(|l| &l.weight));
        let curves = match remembered.filter(known) {
            Some(curves) => curves,
            None => {
                let curves = self.measure(&widths, model, layers, split, context)?;
                context.memory.keep(&what, &serde_json::to_string(&curves).unwrap_or_default());
                curves
            }
        };
        for curve in &curves {
            for trial in &curve.trials {
                context.sensitivity(&curve.layer, Probe::Bits, trial.bits as f64, trial.lost);
            }
        }
        Ok(curves)
    }

    fn measure(
        &self,
        widths: &[u8],
        model: &Model,
        layers: &[&Layer],
        split: &Split,
        context: &Context,
    ) -> Result<Vec<Curve>, StageError> {
        let float = Probed::of(model, model, split, context)?;
        let mut curves = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            context.progress("sensitivity", i, layers.len());
            let mut trials = Vec::new();
            for &bits in widths {
                let mut trial = model.copy();
                let bytes = self.round_one(&mut trial, layer, bits)?;
                let probed = Probed::of(&trial, model, split, context)?;
                let lost = float.quality.lost(&probed.quality).max(0.0);
                trials.push(Trial { bits, error: probed.error(&float)?, lost, bytes });
            }
            curves.push(Curve { layer: layer.name.clone(), weight: layer.weight.clone(), trials });
        }
        Ok(curves)
    }

    /// Rounds one layer's weight to the nearest of so many bits; the bytes that it takes then.
    fn round_one(&self, model: &mut Model, layer: &Layer, bits: u8) -> Result<u64, StageError> {
        let at = StageError::weight(&layer.weight);
        let weight = model.weight_mut(&layer.weight)?;
        let value = weight.effective().map_err(&at)?.f_detach()?;
        let shared = weight.codebook().is_some();
        let grid = weight_grid(layer.slot, &value, self.with_bits(bits), shared, None).map_err(&at)?;
        let Some(grid) = grid else { return Ok(0) };
        let scales = if grid.shape() == GridShape::Tensor { 1 } else { grid.scales().map_err(&at)?.len() };
        let bytes = (value.numel() * bits as usize).div_ceil(8) + 2 * scales;
        weight.quantize(grid).map_err(&at)?;
        Ok(bytes as u64)
    }

    /// The fewest bytes at which no more quality is lost than allowed, as measured with all layers rounded.
    fn hold(
        &self,
        curves: &[Curve],
        most: f64,
        model: &Model,
        layers: &[&Layer],
        split: &Split,
        context: &Context,
    ) -> Result<Vec<usize>, StageError> {
        let goal = evaluate(model, split, context.data.task, Some(model))?;
        let lost = |chosen: &[usize]| -> Result<f64, StageError> {
            let mut trial = model.copy();
            for ((layer, curve), &i) in layers.iter().zip(curves).zip(chosen) {
                self.round_one(&mut trial, layer, curve.trials[i].bits)?;
            }
            Ok(goal.lost(&evaluate(&trial, split, context.data.task, Some(model))?))
        };
        // Every choice that some price leads to, from the widest to the narrowest.
        let path = path(curves);
        let (mut low, mut high) = (0, path.len() - 1);
        let widest = lost(&path[0])?;
        if widest > most {
            let text = format!("{:.2} points are lost even at the widest: `mixed.accuracy_drop` can't be held", widest * 100.0);
            context.note(text);
            return Ok(path[0].clone());
        }
        while low < high {
            let middle = (low + high).div_ceil(2);
            context.progress("choice of bits", low, path.len());
            if lost(&path[middle])? <= most { low = middle } else { high = middle - 1 }
        }
        Ok(path[low].clone())
    }

    /// The bytes of weights that an energy leaves room for.
    fn bytes_for(
        &self,
        most: Joules,
        curves: &[Curve],
        model: &Model,
        layers: &[&Layer],
        context: &Context,
    ) -> Result<u64, StageError> {
        let mut widest = model.copy();
        for (layer, curve) in layers.iter().zip(curves) {
            self.round_one(&mut widest, layer, curve.trials[0].bits)?;
        }
        if let Some(format) = self.activations().calibrated() {
            // Any range does: energy asks for widths alone.
            let placement = self.place(&widest);
            for name in placement.own.iter().chain(placement.shared.iter().map(|(name, _)| name)) {
                let grid = sinter_model::Grid::affine(format.bits(), Levels::Unsigned, 0.0, 1.0);
                widest.activations.insert(name.clone(), grid.map_err(StageError::weight(name))?);
            }
        }
        let floor = costs(&footprint(&widest)?, context.target).floor;
        let bytes: u64 = curves.iter().map(|c| c.trials[0].bytes).sum();
        let spare = (most.0 - floor) * 1e12 / context.target.floor.byte_pj;
        Ok((bytes as f64 + spare).max(0.0) as u64)
    }
}

fn narrowest(mixed: &MixedConfig) -> u8 {
    mixed.widths.iter().copied().min().unwrap_or(2)
}

/// What a model makes of the samples.
struct Probed {
    outputs: Vec<tch::Tensor>,
    quality: Quality,
}

impl Probed {
    fn of(model: &Model, float: &Model, split: &Split, context: &Context) -> Result<Self, StageError> {
        let quality = evaluate(model, split, context.data.task, Some(float))?;
        let mut shown = model.copy();
        sinter_train::expose_logits(&mut shown, context.data.task);
        let runner = tch::no_grad(|| Runner::new(&shown))?;
        let mut outputs = Vec::new();
        for batch in split.batches(256, Order::Stored) {
            let x = batch?.x;
            outputs.push(tch::no_grad(|| runner.run(&[x], Mode::Predict))?.swap_remove(0));
        }
        Ok(Self { outputs, quality })
    }

    fn error(&self, float: &Self) -> Result<f64, StageError> {
        let (mut change, mut whole) = (0.0, 0.0);
        for (ours, wanted) in self.outputs.iter().zip(&float.outputs) {
            let square = |t: &tch::Tensor| t.f_square()?.f_sum(Kind::Double)?.f_double_value(&[]);
            change += square(&ours.f_sub(wanted)?)?;
            whole += square(wanted)?;
        }
        Ok(if change.is_finite() { change / whole.max(1e-30) } else { f64::MAX / 1e9 })
    }
}

/// The choice of every layer at a price for a byte; with equal costs the narrower.
fn at_price(curves: &[Curve], price: f64) -> Vec<usize> {
    let cost = |t: &Trial| t.error + price * t.bytes as f64;
    let best = |c: &Curve| (0..c.trials.len()).rev().min_by(|&a, &b| cost(&c.trials[a]).total_cmp(&cost(&c.trials[b])));
    curves.iter().map(|c| best(c).unwrap_or(0)).collect()
}

/// The choices along rising prices, from the widest that is of use to the narrowest.
fn path(curves: &[Curve]) -> Vec<Vec<usize>> {
    // Between two widths of a layer the choice changes where their costs are equal.
    let mut prices = vec![0.0];
    for curve in curves {
        for (i, a) in curve.trials.iter().enumerate() {
            let turns = curve.trials[i + 1..].iter().filter(|b| a.bytes > b.bytes);
            prices.extend(turns.map(|b| ((b.error - a.error) / (a.bytes - b.bytes) as f64).max(0.0) * (1.0 + 1e-9)));
        }
    }
    prices.sort_by(f64::total_cmp);
    let mut path: Vec<Vec<usize>> = vec![vec![0; curves.len()]];
    for price in prices {
        let next = at_price(curves, price);
        if path.last() != Some(&next) {
            path.push(next);
        }
    }
    path
}

/// The choice of least error within so many bytes: along the path, and then what still fits. Errors with the least possible bytes.
fn within(curves: &[Curve], budget: u64) -> Result<Vec<usize>, u64> {
    let bytes = |chosen: &[usize]| -> u64 { curves.iter().zip(chosen).map(|(c, &i)| c.trials[i].bytes).sum() };
    let least: u64 = curves.iter().map(|c| c.trials.iter().map(|t| t.bytes).min().unwrap_or(0)).sum();
    let fits = path(curves).into_iter().find(|chosen| bytes(chosen) <= budget);
    let narrowest = || curves.iter().map(|c| c.trials.len() - 1).collect::<Vec<_>>();
    let mut chosen = fits.unwrap_or_else(narrowest);
    if bytes(&chosen) > budget {
        return Err(least);
    }
    // The path skips what lies above its hull: widen, best first, as long as there is room.
    loop {
        let spare = budget - bytes(&chosen);
        let gain = |i: usize, wider: usize| {
            let (now, then) = (curves[i].trials[chosen[i]], curves[i].trials[wider]);
            (then.bytes - now.bytes <= spare && then.error < now.error).then_some(now.error - then.error)
        };
        let wider = (0..curves.len()).flat_map(|i| (0..chosen[i]).map(move |w| (i, w)));
        let best = wider.filter_map(|(i, w)| Some((gain(i, w)?, i, w))).max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((_, i, w)) => chosen[i] = w,
            None => return Ok(chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, count: u64, error: f64) -> Curve {
        let trial =
            |bits: u8| Trial { bits, error: error * 4f64.powi(-(bits as i32)), lost: 0.0, bytes: count * bits as u64 / 8 };
        Curve { layer: name.into(), weight: name.into(), trials: [8, 4, 2].map(trial).to_vec() }
    }

    #[test]
    fn sensitive_layers_get_more_bits_and_the_budget_is_kept() {
        let curves = [curve("tender", 1000, 100.0), curve("tough", 1000, 0.1), curve("large", 8000, 1.0)];
        let bytes = |chosen: &[usize]| -> u64 { curves.iter().zip(chosen).map(|(c, &i)| c.trials[i].bytes).sum() };
        let mut last = f64::MAX;
        for budget in [2500, 3000, 4000, 5000, 6000, 9000, 10_000] {
            let chosen = within(&curves, budget).unwrap();
            let error: f64 = curves.iter().zip(&chosen).map(|(c, &i)| c.trials[i].error).sum();
            assert!(bytes(&chosen) <= budget && error <= last, "{budget}: {chosen:?}");
            // No layer that matters more has fewer bits at the same size.
            assert!(chosen[0] <= chosen[1], "{budget}: {chosen:?}");
            last = error;
        }
        assert_eq!(within(&curves, 10_000).unwrap(), [0, 0, 0]);
        assert_eq!(within(&curves, 2499).unwrap_err(), 2500);
    }
}
