//! Grids on the values between layers.

use std::collections::BTreeMap;

use sinter_model::{Grid, Levels, Model};
use sinter_train::StageError;

use crate::calibrate::Observer;
use crate::config::{Number, QuantizeConfig};
use crate::placement::{Placement, known_grid};

/// Which values have grids, and the ranges that calibration found.
pub(crate) struct Grids {
    pub placement: Placement,
    pub ranges: BTreeMap<String, Observer>,
    pub levels: Levels,
}

impl Grids {
    /// Sets the grid of every value: 8 bits, or what the layers that read it ask for.
    pub fn set_all(&self, config: &QuantizeConfig, model: &mut Model) -> Result<(), StageError> {
        let mut wanted: BTreeMap<String, Option<u8>> = BTreeMap::new();
        for layer in model.layers() {
            let input = model.graph.nodes[layer.node].inputs[0].clone();
            // A value that only moves has the grid of what it moves.
            let source = self.placement.source(&input).to_string();
            let bits = config.input_format(model, &layer).map(|f| f.bits());
            let most = wanted.entry(source).or_insert(bits);
            *most = (*most).max(bits);
        }
        for name in self.ranges.keys() {
            if let Some(bits) = wanted.get(name).copied().unwrap_or(Some(8)) {
                self.set(model, name, bits)?;
            }
        }
        self.share(model);
        Ok(())
    }

    /// Sets the grid of one value of those that have their own.
    pub fn set(&self, model: &mut Model, name: &str, bits: u8) -> Result<(), StageError> {
        let source = self.placement.source(name);
        if let Some(observer) = self.ranges.get(source) {
            let (low, high) = observer.range(bits);
            let known = self.placement.known.get(source).filter(|_| bits == 8 && self.levels != Levels::Symmetric);
            let known = known.map_or(Ok(None), |kind| known_grid(kind, self.levels)).map_err(StageError::weight(source))?;
            let grid = match known {
                Some(grid) => grid,
                None => Grid::affine(bits, self.levels, low, high).map_err(StageError::weight(source))?,
            };
            model.activations.insert(source.to_string(), grid);
            self.share(model);
        }
        Ok(())
    }

    /// Gives values that only move the grid of what they move.
    pub fn share(&self, model: &mut Model) {
        for (name, from) in &self.placement.shared {
            if let Some(grid) = model.activations.get(from).map(Grid::copy) {
                model.activations.insert(name.clone(), grid);
            }
        }
    }

    /// Takes the grids from values that only move: while scales are learned they would be second copies of the same ones.
    pub fn unshare(&self, model: &mut Model) {
        self.placement.shared.iter().for_each(|(name, _)| drop(model.activations.remove(name)));
    }
}

/// The levels of activations.
pub(crate) fn levels(config: &QuantizeConfig) -> Levels {
    match config.activations().calibrated().map(|f| f.number) {
        Some(Number::Integer { levels, .. }) => levels,
        _ => Levels::Unsigned,
    }
}
