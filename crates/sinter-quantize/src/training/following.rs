//! Ranges that follow the activations while a model trains: an exponential moving average of their extremes, frozen for the last third
//! (Jacob et al., 2018).

use std::collections::BTreeMap;

use sinter_calibrate::extremes;
use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Mode, Model, QuantParams, Quantizer, with_f32s};
use sinter_train::{Callback, StageError};

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
    steps: usize,
    averages: BTreeMap<String, (f32, f32)>,
}

impl<'a> Ranges<'a> {
    pub fn new(quantizers: &'a ActivationQuantizers, samples: &'a Split, seed: u64) -> Self {
        Self { quantizers, samples, seed, steps: 0, averages: BTreeMap::new() }
    }

    /// What the weights give now, before any range clips it: the model has no quantizers on values.
    fn look(&mut self, model: &Model) -> Result<(), StageError> {
        let seed = self.seed.wrapping_add(self.steps as u64);
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
    fn before_step(&mut self, model: &mut Model, done: f64) -> Result<(), StageError> {
        let due = self.steps.is_multiple_of(EVERY) && done < FREEZE;
        self.steps += 1;
        if !due {
            return Ok(());
        }
        let held = std::mem::take(&mut model.activations);
        let looked = self.look(model);
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

    fn settled(&self, done: f64) -> bool {
        done >= FREEZE
    }
}
