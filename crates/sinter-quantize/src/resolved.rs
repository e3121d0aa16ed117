//! The resolved plan of the stage, in types: every layer with its formats.

use std::collections::BTreeMap;

use serde::Serialize;
use sinter_estimate::Rules;
use sinter_model::{Layer, Levels, Model, Weight};
use sinter_train::Forecast;

use crate::config::{Mode, QuantizeConfig};
use crate::formats::{Activations, Choice, Format, Number, Per, int8_channel};
use crate::kernels::Kernels;
use crate::rounding::Rounding;

/// What the user wrote, and what it comes to for one model on one target.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub config: QuantizeConfig,
    /// What the target's kernels take.
    pub kernels: Option<Kernels>,
    /// The format of weights where no layer says otherwise.
    pub weights: Format,
    /// The format of values between layers, likewise.
    pub activations: Activations,
    /// By the weight's name.
    pub layers: BTreeMap<String, LayerFormats>,
    /// Formats of look-up tables, by the weight's name.
    pub tables: BTreeMap<String, Format>,
}

/// The formats of one layer.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct LayerFormats {
    /// Of its weight; `None` leaves it alone.
    pub weight: Option<Format>,
    /// Whether the user names it.
    pub named: bool,
    /// Of what it reads; `None` for float.
    pub input: Option<Format>,
    /// Whether it reads values quantized by their own range.
    pub dynamic: bool,
    pub facts: Facts,
}

/// What rounding depends on besides the format.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Facts {
    /// Zeros or shared values must stay what they are.
    pub bound: bool,
    /// The samples of a recurrent layer do not lie along the first axis, and its output tells of all steps at once.
    pub recurrent: bool,
    /// The number of weights in all layers of the model together.
    pub count: usize,
}

impl Resolved {
    /// Every layer of a model with its formats.
    pub fn new(config: &QuantizeConfig, kernels: Option<Kernels>, forecast: &Forecast) -> Self {
        let weights = config.weights.or_else(|| Some(kernels.as_ref()?.weights)).unwrap_or_else(int8_channel);
        let activations = config.activations.or_else(|| Some(kernels.as_ref()?.activations)).unwrap_or_default();
        let mut resolved =
            Self { config: config.clone(), kernels, weights, activations, layers: BTreeMap::new(), tables: BTreeMap::new() };
        let model = &forecast.model;
        let layers = model.layers();
        let count = layers.iter().filter_map(|l| model.weights.get(&l.weight)).map(Weight::numel).sum();
        for layer in layers {
            let formats = resolved.formats(model, &layer, forecast, count);
            resolved.layers.insert(layer.weight, formats);
        }
        for table in model.tables() {
            if let Some(format) = resolved.format_of_table(model, &table) {
                resolved.tables.insert(table.weight, format);
            }
        }
        resolved
    }

    fn formats(&self, model: &Model, layer: &Layer, forecast: &Forecast, count: usize) -> LayerFormats {
        let overrides = || self.config.layers.iter().rev().filter(|o| o.r#match.matches(model, layer));
        // The last override that names it wins.
        let of_weight = overrides().map(|o| o.weights).find(|c| *c != Choice::Default);
        let of_input = overrides().map(|o| o.activations).find(|c| *c != Choice::Default);
        let node = &model.graph.nodes[layer.node];
        let encodings = forecast.of(&layer.weight);
        LayerFormats {
            weight: match of_weight {
                Some(Choice::Format(format)) => Some(format),
                Some(Choice::None) => None,
                _ => self.default_weight(node.kind()),
            },
            named: of_weight.is_some(),
            input: match of_input {
                Some(Choice::Format(format)) => Some(format),
                Some(Choice::None) => None,
                _ => self.activations.calibrated(),
            },
            dynamic: self.activations == Activations::Dynamic && of_input != Some(Choice::None),
            facts: Facts { bound: encodings.masked || encodings.clustered.is_some(), recurrent: node.op.is_recurrent(), count },
        }
    }

    /// The format of a look-up table; `None` leaves it alone.
    fn format_of_table(&self, model: &Model, table: &Layer) -> Option<Format> {
        let named = self.config.layers.iter().rev().filter(|o| o.r#match.matches(model, table)).map(|o| o.weights);
        let asked = named.chain([self.config.embeddings]).find(|c| *c != Choice::Default);
        match asked.unwrap_or(Choice::Default) {
            Choice::Format(format) => Some(format),
            Choice::None => None,
            Choice::Default if matches!(self.weights.number, Number::Half(_)) => Some(self.weights),
            Choice::Default => Some(int8_channel()),
        }
    }

    /// The format of a weight where no override names it.
    fn default_weight(&self, kind: &str) -> Option<Format> {
        match &self.kernels {
            Some(kernels) if !kernels.runs(kind) => None,
            Some(kernels) if self.config.weights.is_none() && kernels.per_tensor.iter().any(|k| k == kind) => {
                Some(Format { per: Per::Tensor, ..self.weights })
            }
            _ => Some(self.weights),
        }
    }

    /// The format of a layer's weight; `None` leaves it alone.
    pub fn weight(&self, layer: &Layer) -> Option<Format> {
        self.layers.get(&layer.weight)?.weight
    }

    /// The format of what a layer reads; `None` for float.
    pub fn input(&self, layer: &Layer) -> Option<Format> {
        self.layers.get(&layer.weight)?.input
    }

    /// Whether a layer reads values quantized by their own range.
    pub fn is_dynamic(&self, layer: &Layer) -> bool {
        self.layers.get(&layer.weight).is_some_and(|l| l.dynamic)
    }

    /// Whose rules the kernels keep.
    pub fn rules(&self) -> Rules {
        self.kernels.as_ref().map(|k| k.rules).unwrap_or_default()
    }

    /// Whether the target's kernels compute an operator in integers.
    pub fn runs(&self, kind: &str) -> bool {
        self.kernels.as_ref().is_none_or(|k| k.runs(kind))
    }

    /// The sign of activations.
    pub fn levels(&self) -> Levels {
        match self.activations.calibrated().map(|f| f.number) {
            Some(Number::Integer { levels, .. }) => levels,
            _ => Levels::Unsigned,
        }
    }

    /// How weights of a format are rounded. Those that keep zeros or shared values, and those of one bit or without integers, have no choice.
    pub fn rounding(&self, facts: Facts, format: Option<Format>) -> Rounding {
        let bits = format.map_or(32, Format::bits);
        let unsigned = matches!(format.map(|f| f.number), Some(Number::Integer { levels: Levels::Unsigned, .. }));
        if facts.bound || facts.recurrent || unsigned || !(2..=8).contains(&bits) {
            return Rounding::default();
        }
        let default = || match self.config.mode {
            Mode::Ptq if bits < 8 => Rounding::below_eight_bits(facts.count),
            _ => Rounding::default(),
        };
        self.config.rounding.clone().unwrap_or_else(default)
    }
}
