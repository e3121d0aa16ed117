//! What a stage resolves to: what it will do, pass by pass and layer by layer. `sinter plan` prints it, and keys of results hash it.

use serde::Serialize;

/// What one stage will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepPlan {
    /// The stage's name in YAML.
    pub stage: String,
    /// What is asked, in a few words, for tables and charts.
    pub what: String,
    /// The stage's configuration with every default filled in.
    pub settings: serde_json::Value,
    /// What runs, in order.
    pub passes: Vec<PassPlan>,
    /// What becomes of each layer, in graph order; only layers that the stage could act on.
    pub layers: Vec<LayerPlan>,
}

/// One pass of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassPlan {
    /// Its name: `calibrate`.
    pub name: String,
    /// What it does here, in a few words.
    pub what: String,
}

/// What becomes of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerPlan {
    /// Its name.
    pub layer: String,
    /// Its operator.
    pub kind: String,
    /// What is done: `int8/channel, nearest; reads uint8`. Empty for a layer that is left out.
    pub action: String,
    /// Why it is left out, or what stands in the way of a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl StepPlan {
    /// A plan without passes and layers.
    pub fn new(stage: &str, what: impl Into<String>, settings: &impl Serialize) -> Self {
        let settings = serde_json::to_value(settings).unwrap_or_default();
        Self { stage: stage.into(), what: what.into(), settings, passes: vec![], layers: vec![] }
    }

    /// The same with one pass more.
    pub fn pass(mut self, name: &str, what: impl Into<String>) -> Self {
        self.passes.push(PassPlan { name: name.into(), what: what.into() });
        self
    }

    /// The same with these layers.
    pub fn with_layers(mut self, layers: Vec<LayerPlan>) -> Self {
        self.layers = layers;
        self
    }
}
