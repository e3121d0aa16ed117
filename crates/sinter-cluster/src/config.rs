//! The configuration of `cluster`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Dataset;
use sinter_model::{Bytes, Layer, Model};
use sinter_train::{FitConfig, LayerPattern, StageError, covers};

/// Shares weights: every weight of a layer takes one of a few values.
///
/// ```yaml
/// - cluster: { centroids: 16, layers: [{ match: "fc*", centroids: 32 }], finetune: { epochs: 2 } }
/// - cluster: { budget: 20 KiB, importance: hessian, finetune: { epochs: 4 } }
/// - cluster: { centroids: 8, entropy: 0.02, finetune: { epochs: 10, distill: {} } }
/// - cluster: { centroids: 256, vector: 4 }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Distinct values a table, zero included: 2 to 65536. Needed unless there is a `budget`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub centroids: Option<usize>,
    /// Choose the number of centroids of each layer so that indices (entropy coded) and tables fit in so many bytes, at the least
    /// error (rate-distortion, Shoham and Gersho, 1988).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Bytes>,
    /// Who shares a table. Default: the weights of a layer.
    #[serde(default)]
    pub scope: Scope,
    /// Weights to a centroid: more than 1 makes vector codebooks (product quantization; Jégou et al., 2011). Default: 1.
    #[serde(default = "one")]
    pub vector: usize,
    /// Whose squared errors count more. Default: uniform.
    #[serde(default)]
    pub importance: Importance,
    /// While fine-tuning, the price of a bit, as a share of the weights' mean square: weights are drawn toward cheap symbols (zero above
    /// all). Default: 0. Implies `reassign`.
    #[serde(default)]
    pub entropy: f64,
    /// While fine-tuning, weights choose their centroids anew after so many steps each. Default: never; 20 with `entropy`.
    #[serde(default)]
    pub reassign: Option<usize>,
    /// How biases and other small parameters are kept. Default: float16.
    #[serde(default)]
    pub biases: Precision,
    /// Other numbers of centroids for some layers; 0 leaves a layer as it is.
    #[serde(default)]
    pub layers: Vec<LayerCentroids>,
    /// Train latent weights and centroids afterwards. Default: no.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

fn one() -> usize {
    1
}

/// A number of centroids for some layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerCentroids {
    /// Which layers.
    pub r#match: LayerPattern,
    /// Distinct values, zero included; 0 leaves them as they are.
    pub centroids: usize,
}

/// Who shares a table of centroids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ClusterScope")]
pub enum Scope {
    /// The weights of a layer.
    #[default]
    Layer,
    /// The weights of one output channel.
    Channel,
    /// All layers.
    Shared,
}

/// How much each weight's squared error counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// All alike.
    #[default]
    Uniform,
    /// By the diagonal of the Hessian, estimated by that of the empirical Fisher matrix (Choi et al., 2017).
    Hessian,
}

/// How small parameters are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits.
    Float32,
    /// 16 bits.
    #[default]
    Float16,
}

/// Steps between assignments when `entropy` asks for them and `reassign` does not say.
const REASSIGN: usize = 20;

impl ClusterConfig {
    /// The number of centroids that the user wants for a layer; `None` leaves it to the budget.
    pub(crate) fn wanted(&self, model: &Model, layer: &Layer) -> Option<usize> {
        let special = self.layers.iter().rev().find(|o| o.r#match.matches(model, layer));
        special.map(|o| o.centroids).or(self.centroids)
    }

    /// Steps between assignments while fine-tuning; `None` keeps them.
    pub(crate) fn reassign_every(&self) -> Option<usize> {
        self.reassign.or((self.entropy > 0.0).then_some(REASSIGN))
    }

    /// Errors on what can't be clustered so.
    pub(crate) fn check_config(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        let possible = |k: usize| (2..=65536).contains(&k);
        let error = |key: &str, reason: String| Err(StageError::config(key, reason));
        match (self.centroids, self.budget) {
            (None, None) => return error("", "cluster needs `centroids` (values a layer) or a `budget` (bytes)".into()),
            (Some(_), Some(_)) => return error("budget", "`budget` chooses the centroids: leave `centroids` out".into()),
            (Some(k), None) if !possible(k) => {
                return error("centroids", format!("centroids must lie between 2 and 65536, not {k}"));
            }
            _ => {}
        }
        for (i, layer) in self.layers.iter().enumerate() {
            covers(model, &layer.r#match, &format!("layers[{i}].match"))?;
            if layer.centroids != 0 && !possible(layer.centroids) {
                let reason = format!("centroids must be 0 or lie between 2 and 65536, not {}", layer.centroids);
                return error(&format!("layers[{i}].centroids"), reason);
            }
        }
        if model.layers().is_empty() {
            return error("", "the model has no layer with weights to cluster".into());
        }
        if !(1..=64).contains(&self.vector) {
            return error("vector", format!("a centroid stands for 1 to 64 weights, not {}", self.vector));
        }
        if !(self.entropy.is_finite() && self.entropy >= 0.0) {
            return error("entropy", format!("the price of a bit must not be negative, it is {}", self.entropy));
        }
        if self.reassign == Some(0) {
            return error("reassign", "reassign counts steps: at least 1".into());
        }
        let plain = self.vector == 1 && self.scope == Scope::Layer;
        if self.vector > 1 && self.scope != Scope::Layer {
            return error("vector", "vector centroids go with `scope: layer`".into());
        }
        if self.budget.is_some() && !plain {
            return error("budget", "a budget goes with scalar centroids and `scope: layer`".into());
        }
        if self.reassign_every().is_some() {
            let key = if self.entropy > 0.0 { "entropy" } else { "reassign" };
            if self.finetune.is_none() {
                return error(key, format!("`{key}` works while fine-tuning: add `finetune`"));
            }
            if !plain {
                return error(key, format!("`{key}` goes with scalar centroids and `scope: layer`"));
            }
        }
        if self.importance == Importance::Hessian {
            let none = data.train.is_empty().then_some("training samples, and there are none");
            let wanted = none.or_else(|| sinter_task::tasks::of(data.task).unteachable(data.train.is_labelled()));
            if let Some(wanted) = wanted {
                return error("importance", format!("importance hessian looks at gradients, and these need {wanted}"));
            }
        }
        match &self.finetune {
            Some(finetune) => finetune.check("finetune", data),
            None => Ok(()),
        }
    }
}
