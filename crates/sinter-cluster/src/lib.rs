//! The stage `cluster`: the weights of a layer share a few values (Han et al., Deep Compression, 2016).
//!
//! Each layer gets a scalar codebook by one-dimensional k-means (see [`kmeans`]). Pruned weights keep a centroid of their own at zero.
//! Fine-tuning moves the centroids by the summed gradients of their clusters; the assignments stay.

pub mod kmeans;

use serde::{Deserialize, Serialize};
use sinter_data::Dataset;
use sinter_model::{Codebook, Grid, GridShape, Layer, Model, fold_batch_norm, to_f32s};
use sinter_train::{Context, FitConfig, LayerPattern, Stage, StageError, TeacherRef, covers, fit};

/// Shares weights within each layer.
///
/// ```yaml
/// - cluster: { centroids: 16, layers: [{ match: "fc*", centroids: 32 }], finetune: { epochs: 2 } }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Distinct values a layer, zero included: 2 to 65536.
    pub centroids: usize,
    /// Other numbers for some layers; 0 leaves a layer as it is.
    #[serde(default)]
    pub layers: Vec<LayerCentroids>,
    /// Train the centroids afterwards. Default: no.
    #[serde(default)]
    pub finetune: Option<FitConfig>,
}

/// A number of centroids for some layers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerCentroids {
    pub r#match: LayerPattern,
    pub centroids: usize,
}

impl ClusterConfig {
    fn centroids_for(&self, model: &Model, layer: &Layer) -> usize {
        let special = self.layers.iter().rev().find(|o| o.r#match.matches(model, layer));
        special.map_or(self.centroids, |o| o.centroids)
    }
}

impl Stage for ClusterConfig {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        let possible = |k: usize| (2..=65536).contains(&k);
        if !possible(self.centroids) {
            return Err(StageError::config(
                "centroids",
                format!("centroids must lie between 2 and 65536, not {}", self.centroids),
            ));
        }
        for (i, layer) in self.layers.iter().enumerate() {
            covers(model, &layer.r#match, &format!("layers[{i}].match"))?;
            if layer.centroids != 0 && !possible(layer.centroids) {
                let reason = format!("centroids must be 0 or lie between 2 and 65536, not {}", layer.centroids);
                return Err(StageError::config(&format!("layers[{i}].centroids"), reason));
            }
        }
        if model.layers().is_empty() {
            return Err(StageError::config("", "the model has no layer with weights to cluster"));
        }
        if let Some(finetune) = &self.finetune {
            finetune.check("finetune", data)?;
        }
        Ok(())
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.finetune.iter().flat_map(|f| f.teachers()).collect()
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        // A normalisation folded later would scale each channel's values apart.
        fold_batch_norm(&mut model)?;
        let layers = model.layers();
        for (i, layer) in layers.iter().enumerate() {
            context.progress("k-means", i, layers.len());
            let k = self.centroids_for(&model, layer);
            if k > 0 {
                cluster_layer(&mut model, layer, k)?;
            }
        }
        if let Some(finetune) = &self.finetune {
            fit(&mut model, finetune, context)?;
        }
        Ok(model)
    }
}

fn cluster_layer(model: &mut Model, layer: &Layer, k: usize) -> Result<(), StageError> {
    let name = &layer.weight;
    let weight = model.weight_mut(name)?;
    let keep = weight.mask().map(|m| m.keep().shallow_clone());
    // What is shared is the value before the grid: the grid is a later link.
    let mut value = weight.latent().f_detach()?;
    if let Some(mask) = weight.mask() {
        value = mask.apply(&value).map_err(StageError::weight(name))?;
    }
    if let Some(codebook) = weight.codebook() {
        value = codebook.apply(&value).map_err(StageError::weight(name))?.f_detach()?;
    }
    let mut values = to_f32s(&value)?;
    if keep.is_some() {
        values.retain(|&v| v != 0.0);
    }
    let free = if keep.is_some() { k - 1 } else { k };
    let mut centroids = kmeans::fit(values, free).centroids;
    if keep.is_some() {
        centroids.retain(|&c| c != 0.0);
        centroids.push(0.0);
    }
    let codebook = Codebook::assign(&centroids, &value, keep.as_ref()).map_err(StageError::weight(name))?;
    weight.set_latent(value.copy()).map_err(StageError::weight(name))?;
    weight.cluster(codebook).map_err(StageError::weight(name))?;
    // A scale a channel would part the shared values again: a quantized weight gets one scale, and its bias, whose scale followed, none.
    if let Some(bits) = weight.grid().filter(|g| g.shape() != GridShape::Tensor).map(|g| g.bits()) {
        let magnitude = value.f_abs()?.f_max()?.f_double_value(&[])? as f32;
        weight.quantize(Grid::symmetric(bits, GridShape::Tensor, &[magnitude])?).map_err(StageError::weight(name))?;
        if let Some(bias) = &layer.bias {
            model.weight_mut(bias)?.drop_grid();
        }
    }
    Ok(())
}
