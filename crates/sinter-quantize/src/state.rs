//! A model on its way through the passes.

use std::collections::BTreeMap;

use sinter_calibrate::{Statistics, Wanted, gather};
use sinter_data::Split;
use sinter_model::{Layer, Model};
use sinter_train::{Context, StageError};

use crate::activations::ActivationQuantizers;
use crate::bridges::Bridge;
use crate::formats::Format;
use crate::placement::Placement;
use crate::resolved::Resolved;
use crate::rounding::Rounding;

/// A model on its way through the passes.
pub(crate) struct State<'a> {
    pub resolved: &'a Resolved,
    pub context: &'a Context<'a>,
    /// What calibration looks at.
    pub samples: Split,
    pub model: Model,
    /// As it was before anything was rounded, with the same nodes.
    pub float: Option<Model>,
    /// Formats that a pass chose, by weight; they win over those of the plan.
    pub chosen: BTreeMap<String, Format>,
    pub placement: Placement,
    /// Of the float model.
    pub statistics: Statistics,
    /// Set once ranges are known.
    pub activations: Option<ActivationQuantizers>,
}

impl<'a> State<'a> {
    /// Before the first pass.
    pub fn new(resolved: &'a Resolved, model: Model, context: &'a Context<'a>) -> Self {
        let split = if context.data.train.is_empty() { &context.data.validation } else { &context.data.train };
        Self {
            resolved,
            context,
            samples: split.sample(resolved.config.samples, context.seed),
            model,
            float: None,
            chosen: BTreeMap::new(),
            placement: Placement::default(),
            statistics: Statistics::default(),
            activations: None,
        }
    }

    /// The format of a layer's weight; `None` leaves it alone.
    pub fn weight(&self, layer: &Layer) -> Option<Format> {
        self.chosen.get(&layer.weight).copied().or_else(|| self.resolved.weight(layer))
    }

    /// The layers whose weight has a format, in graph order.
    pub fn layers(&self) -> Vec<Layer> {
        self.model.layers().into_iter().filter(|l| self.weight(l).is_some()).collect()
    }

    /// How a layer's weight is rounded.
    pub fn rounding(&self, layer: &Layer) -> Rounding {
        let facts = self.resolved.layers.get(&layer.weight).map(|l| l.facts).unwrap_or_default();
        self.resolved.rounding(facts, self.weight(layer))
    }

    /// The widest format of what reads a bridge.
    pub fn widest(&self, bridge: &Bridge) -> Option<Format> {
        bridge.readers.iter().filter_map(|r| self.weight(&r.layer)).max_by_key(|f| f.bits())
    }

    /// What the calibration samples tell of the model as it is now.
    pub fn gather(&self, wanted: &Wanted) -> Result<Statistics, StageError> {
        Ok(gather(&self.model, wanted, &self.samples, &self.context.reporter())?)
    }

    /// The model as it was before anything was rounded.
    pub fn float(&self) -> &Model {
        self.float.as_ref().unwrap_or(&self.model)
    }
}
