//! Quantizers on the values between layers.

use std::collections::BTreeMap;

use sinter_calibrate::Observer;
use sinter_model::{Levels, Model, OpResult, OutputRange, QuantParams, Quantizer};
use sinter_train::StageError;

use crate::calibrations::Calibration;
use crate::placement::Placement;
use crate::resolved::Resolved;

/// Which values have quantizers, and the ranges that calibration found.
#[derive(Debug)]
pub(crate) struct ActivationQuantizers {
    pub placement: Placement,
    pub ranges: BTreeMap<String, Observer>,
    pub calibration: Calibration,
    pub levels: Levels,
}

impl ActivationQuantizers {
    /// Sets the quantizer of every value: 8 bits, or what the layers that read it ask for.
    pub fn set_all(&self, resolved: &Resolved, model: &mut Model) -> Result<(), StageError> {
        let mut wanted: BTreeMap<String, Option<u8>> = BTreeMap::new();
        for layer in model.layers() {
            let input = model.graph.nodes[layer.node].inputs[0].clone();
            // A value that only moves has the quantizer of what it moves.
            let source = self.placement.source(&input).to_string();
            let bits = resolved.input(&layer).map(|f| f.bits());
            let most = wanted.entry(source).or_insert(bits);
            *most = (*most).max(bits);
        }
        for name in self.ranges.keys() {
            if let Some(bits) = wanted.get(name).copied().unwrap_or(Some(8)) {
                self.put(model, name, bits)?;
            }
        }
        self.share(model);
        Ok(())
    }

    /// Sets the quantizer of one value of those that have their own, and of those that move it.
    pub fn set(&self, model: &mut Model, name: &str, bits: u8) -> Result<(), StageError> {
        self.put(model, name, bits)?;
        self.share(model);
        Ok(())
    }

    fn put(&self, model: &mut Model, name: &str, bits: u8) -> Result<(), StageError> {
        let source = self.placement.source(name);
        if let Some(observer) = self.ranges.get(source) {
            let known = self.placement.known.get(source).filter(|_| bits == 8 && self.levels != Levels::Symmetric);
            let params = match known {
                Some(range) => fixed(*range, self.levels),
                None => {
                    let (low, high) = self.calibration.range(observer, bits);
                    QuantParams::affine(bits, self.levels, low, high)
                }
            };
            let quantizer = params.and_then(|p| Quantizer::new(&p)).map_err(StageError::weight(source))?;
            model.activations.insert(source.to_string(), quantizer);
        }
        Ok(())
    }

    /// Gives values that only move the quantizer of what they move.
    pub fn share(&self, model: &mut Model) {
        for (name, from) in &self.placement.shared {
            if let Some(quantizer) = model.activations.get(from).map(Quantizer::copy) {
                model.activations.insert(name.clone(), quantizer);
            }
        }
    }

    /// Takes the quantizers from values that only move: while scales are learned they would be second copies of the same ones.
    pub fn unshare(&self, model: &mut Model) {
        self.placement.shared.iter().for_each(|(name, _)| drop(model.activations.remove(name)));
    }
}

/// The parameters of results of a known range, in 8 bits (TensorFlow Lite 8-bit quantization specification).
fn fixed(range: OutputRange, levels: Levels) -> OpResult<QuantParams> {
    let (scale, lowest) = range.scale();
    QuantParams::of_tensor(8, levels, scale, levels.range(8).0 - lowest)
}
