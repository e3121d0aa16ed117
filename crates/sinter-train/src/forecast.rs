//! What a model will be like when a stage begins, as far as that can be told before anything runs.

use std::collections::BTreeMap;

use sinter_model::{Layer, Model};

/// What earlier stages will have set on a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encodings {
    /// A mask.
    pub masked: bool,
    /// A codebook, and how many weights each of its centroids stands for.
    pub clustered: Option<usize>,
    /// A quantizer, or sixteen bits.
    pub quantized: bool,
}

/// A model as it came, and what the stages resolved so far will have done to it.
///
/// Its layers keep their names throughout; their shapes may be larger than what is left when the stage runs, once something was removed.
#[derive(Debug)]
pub struct Forecast {
    /// As it came, its normalisations folded where an earlier stage folds them; with quantizers of made-up ranges once one is resolved.
    pub model: Model,
    /// Whether channels or blocks will be gone.
    pub shrunk: bool,
    encodings: BTreeMap<String, Encodings>,
}

impl Forecast {
    /// Before the first stage.
    pub fn new(model: &Model) -> Self {
        let mut encodings = BTreeMap::new();
        for (name, weight) in &model.weights {
            let found = Encodings {
                masked: weight.mask().is_some(),
                clustered: weight.codebook().map(|c| c.dim()),
                quantized: weight.quantizer().is_some(),
            };
            encodings.insert(name.clone(), found);
        }
        Self { model: model.copy(), shrunk: false, encodings }
    }

    /// What a weight will carry.
    pub fn of(&self, weight: &str) -> Encodings {
        self.encodings.get(weight).copied().unwrap_or_default()
    }

    /// Notes what a stage will set on a layer's weight.
    pub fn set(&mut self, layer: &Layer, change: impl FnOnce(&mut Encodings)) {
        change(self.encodings.entry(layer.weight.clone()).or_default());
    }
}
