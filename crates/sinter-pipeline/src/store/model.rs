//! A model on disk with its chains: one safetensors file, the graph in its metadata.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sinter_model::{
    Chain, Codebook, ElementType, Graph, Half, Mask, Model, NmPattern, OpError, QuantParams, Quantizer, Role, Weight, to_bytes,
    to_i64s,
};
use tch::{Kind, Tensor};

/// Why a checkpoint was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It is not what was written.
    #[error("checkpoint: {0}")]
    Damaged(String),
    /// A tensor could not be made.
    #[error(transparent)]
    Op(#[from] OpError),
}

#[derive(Serialize, Deserialize)]
struct Meta {
    name: String,
    graph: Graph,
    weights: Vec<WeightMeta>,
    activations: Vec<(String, QuantParams)>,
}

#[derive(Serialize, Deserialize)]
struct WeightMeta {
    name: String,
    role: Role,
    element: ElementType,
    mask: bool,
    pattern: Option<NmPattern>,
    codebook: Option<CodebookMeta>,
    half: Option<Half>,
    quantizer: Option<QuantParams>,
}

#[derive(Serialize, Deserialize)]
struct CodebookMeta {
    /// Weights to a centroid.
    dim: i64,
    indices: Vec<i64>,
    pinned: Vec<usize>,
    axis: Option<usize>,
    shared: Option<String>,
}

/// The bytes of a model, from which reading gives back latent tensors, chains and quantizers exactly.
pub(super) fn encode(model: &Model) -> Result<Vec<u8>, CheckpointError> {
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut weights = Vec::new();
    for (i, (name, weight)) in model.weights.iter().enumerate() {
        let latent = weight.latent();
        let Some(element) = ElementType::from_kind(latent.kind()) else {
            let reason = format!("`{name}` has elements of kind {:?}", latent.kind());
            return Err(CheckpointError::Damaged(reason));
        };
        parts.push((format!("{i}.latent"), to_bytes(latent)?));
        if let Some(mask) = weight.mask() {
            let keep: Vec<u8> = to_i64s(mask.keep())?.into_iter().map(|k| k as u8).collect();
            parts.push((format!("{i}.mask"), keep));
        }
        if let Some(codebook) = weight.codebook() {
            parts.push((format!("{i}.centroids"), to_bytes(codebook.centroids())?));
            parts.push((format!("{i}.indices"), to_bytes(codebook.indices())?));
        }
        if let Some(leaf) = weight.quantizer().and_then(Quantizer::leaf) {
            parts.push((format!("{i}.scale"), to_bytes(leaf)?));
        }
        parts.push((format!("{i}.shape"), latent.size().iter().flat_map(|n| n.to_le_bytes()).collect()));
        weights.push(WeightMeta {
            name: name.clone(),
            role: weight.role,
            element,
            mask: weight.mask().is_some(),
            pattern: weight.mask().and_then(Mask::pattern),
            codebook: weight.codebook().map(|c| CodebookMeta {
                dim: c.dim() as i64,
                indices: c.indices().size(),
                pinned: c.pinned().to_vec(),
                axis: c.axis(),
                shared: c.shared_name().map(String::from),
            }),
            half: weight.half(),
            quantizer: weight.quantizer().map(Quantizer::params).transpose()?,
        });
    }
    for (i, quantizer) in model.activations.values().enumerate() {
        if let Some(leaf) = quantizer.leaf() {
            parts.push((format!("value {i}.scale"), to_bytes(leaf)?));
        }
    }
    let activations = model.activations.iter().map(|(n, g)| Ok((n.clone(), g.params()?))).collect::<Result<_, OpError>>()?;
    let meta = Meta { name: model.name.clone(), graph: model.graph.clone(), weights, activations };
    let fail = CheckpointError::Damaged;
    let text = serde_json::to_string(&meta).map_err(|e| fail(e.to_string()))?;
    let views = parts.iter().map(|(name, bytes)| Ok((name.clone(), TensorView::new(Dtype::U8, vec![bytes.len()], bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|e| fail(e.to_string()))?;
    safetensors::serialize(views, Some(HashMap::from([("sinter".to_string(), text)]))).map_err(|e| fail(e.to_string()))
}

/// A model from its bytes.
pub(super) fn decode(all: &[u8]) -> Result<Model, CheckpointError> {
    let fail = CheckpointError::Damaged;
    let (_, metadata) = SafeTensors::read_metadata(all).map_err(|e| fail(e.to_string()))?;
    let tensors = SafeTensors::deserialize(all).map_err(|e| fail(e.to_string()))?;
    let text = metadata.metadata().as_ref().and_then(|m| m.get("sinter")).ok_or_else(|| fail("it is not Sinter's".into()))?;
    let meta: Meta = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
    let part = |name: String| tensors.tensor(&name).map(|t| t.data().to_vec()).map_err(|e| fail(e.to_string()));
    let leaf = |name: String| tensors.tensor(&name).ok().map(|t| t.data().to_vec());
    let make = |data: &[u8], shape: &[i64], kind: Kind| Tensor::f_from_data_size(data, shape, kind).map_err(OpError::from);
    let mut weights = BTreeMap::new();
    for (i, w) in meta.weights.iter().enumerate() {
        let shape: Vec<i64> =
            part(format!("{i}.shape"))?.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap_or_default())).collect();
        let count: i64 = shape.iter().product();
        let sized = |name: String, size: usize| -> Result<Vec<u8>, CheckpointError> {
            let data = part(name)?;
            if data.len() == count as usize * size { Ok(data) } else { Err(fail(format!("`{}` has the wrong length", w.name))) }
        };
        let latent = make(&sized(format!("{i}.latent"), w.element.bytes())?, &shape, w.element.kind())?;
        let mask = match w.mask {
            true => Some(Mask::new(&make(&sized(format!("{i}.mask"), 1)?, &shape, Kind::Uint8)?, w.pattern)?),
            false => None,
        };
        let codebook = match &w.codebook {
            Some(c) => {
                let (centroids, indices) = (part(format!("{i}.centroids"))?, part(format!("{i}.indices"))?);
                let runs: i64 = c.indices.iter().product();
                let fits = c.dim > 0 && centroids.len() as i64 % (4 * c.dim) == 0 && indices.len() as i64 == 8 * runs;
                if !fits || runs * c.dim != count {
                    return Err(fail(format!("the codebook of `{}` has the wrong length", w.name)));
                }
                let centroids = make(&centroids, &[centroids.len() as i64 / 4 / c.dim, c.dim], Kind::Float)?;
                let found = Codebook::new(&centroids, &make(&indices, &c.indices, Kind::Int64)?, c.pinned.clone())?;
                let found = found.shared(c.shared.clone());
                Some(match c.axis {
                    Some(axis) => found.by_channel(axis)?,
                    None => found,
                })
            }
            None => None,
        };
        let quantizer = w.quantizer.as_ref().map(|q| quantizer(q, leaf(format!("{i}.scale")))).transpose()?;
        weights.insert(w.name.clone(), Weight::from_parts(w.role, latent, Chain { mask, codebook, half: w.half, quantizer }));
    }
    let values = meta.activations.iter().enumerate();
    let values = values.map(|(i, (name, params))| Ok((name.clone(), quantizer(params, leaf(format!("value {i}.scale")))?)));
    let activations = values.collect::<Result<_, OpError>>()?;
    Ok(Model { name: meta.name, graph: meta.graph, weights, activations })
}

/// A quantizer. Where gradients were training its scales, their logarithms are kept beside the parameters, which would round them.
fn quantizer(params: &QuantParams, leaf: Option<Vec<u8>>) -> Result<Quantizer, OpError> {
    let mut quantizer = Quantizer::new(params)?;
    if let Some(leaf) = leaf {
        quantizer.learn()?;
        quantizer.set_leaf(Tensor::f_from_data_size(&leaf, &[leaf.len() as i64 / 4], Kind::Float)?)?;
    }
    Ok(quantizer)
}
