//! Ranges that follow the activations while a model trains: an exponential moving average of their extremes, frozen for the last third
//! (Jacob et al., 2018).

use std::collections::BTreeMap;

use sinter_calibrate::extremes;
use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Mode, Model, QuantParams, Quantizer, with_f32s};
use sinter_train::{Callback, Moment, StageError};
use tch::Tensor;

use crate::activations::ActivationQuantizers;

/// Steps between two looks at the activations.
const EVERY: usize = 8;
/// Samples that are looked at.
const BATCH: usize = 64;
/// How much a look moves an average.
const MOVE: f32 = 0.1;
/// The share of training after which ranges stay.
const FREEZE: f64 = 0.67;

/// Moves the ranges of activation quantizers as a model trains.
pub(crate) struct Ranges<'a> {
    quantizers: &'a ActivationQuantizers,
    samples: &'a Split,
    seed: u64,
    averages: BTreeMap<String, (f32, f32)>,
}

impl<'a> Ranges<'a> {
    pub fn new(quantizers: &'a ActivationQuantizers, samples: &'a Split, seed: u64) -> Self {
        Self { quantizers, samples, seed, averages: BTreeMap::new() }
    }

    /// What the weights give now, before any range clips it: the model has no quantizers on values.
    fn look(&mut self, model: &Model, step: usize) -> Result<(), StageError> {
        let seed = self.seed.wrapping_add(step as u64 + 1);
        let batch = self.samples.sample(BATCH, seed).batches(BATCH, Order::Stored).next();
        let Some(batch) = batch.transpose()? else { return Ok(()) };
        tch::no_grad(|| {
            Runner::new(model)?.run_tapped(&batch.inputs, Mode::Predict, &mut |name, value| {
                if !self.quantizers.ranges.contains_key(name) {
                    return Ok(());
                }
                let part = self.quantizers.placement.relevant.get(name).map(|r| r.clamp(value)).transpose()?;
                let seen = with_f32s(part.as_ref().unwrap_or(value), extremes)?;
                if seen.low <= seen.high {
                    let average = self.averages.entry(name.to_string()).or_insert((seen.low, seen.high));
                    average.0 += MOVE * (seen.low - average.0);
                    average.1 += MOVE * (seen.high - average.1);
                }
                Ok(())
            })
        })?;
        Ok(())
    }
}

impl Callback for Ranges<'_> {
    fn before_step(&mut self, model: &mut Model, Moment { step, done }: Moment) -> Result<(), StageError> {
        if !step.is_multiple_of(EVERY) || done >= FREEZE {
            return Ok(());
        }
        let held = std::mem::take(&mut model.activations);
        let looked = self.look(model, step);
        model.activations = held;
        looked?;
        for (name, (low, high)) in &self.averages {
            if let Some(bits) = model.activations.get(name).map(Quantizer::bits) {
                let params = QuantParams::affine(bits, self.quantizers.levels, *low, *high);
                let quantizer = params.and_then(|p| Quantizer::new(&p)).map_err(StageError::weight(name))?;
                model.activations.insert(name.clone(), quantizer);
            }
        }
        self.quantizers.share(model);
        Ok(())
    }

    fn remembered(&self) -> BTreeMap<String, Tensor> {
        self.averages.iter().map(|(value, &(low, high))| (value.clone(), Tensor::from_slice(&[low, high]))).collect()
    }

    fn recall(&mut self, remembered: BTreeMap<String, Tensor>) {
        let ends = |t: &Tensor| Vec::<f32>::try_from(t).ok().and_then(|ends| Some((*ends.first()?, *ends.get(1)?)));
        self.averages = remembered.iter().filter_map(|(value, t)| Some((value.clone(), ends(t)?))).collect();
    }

    fn settled(&self, done: f64) -> bool {
        done >= FREEZE
    }
}
