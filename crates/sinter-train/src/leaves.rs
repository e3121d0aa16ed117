//! What the optimizer moves: the leaves of a model, as tensors that gradients reach.

use sinter_exec::{Leaf, leaves};
use sinter_model::Model;
use tch::{Kind, Tensor};

use crate::error::StageError;

/// The most that one step of Adam may move a weight, as a share of the root mean square of its tensor.
const LONGEST_STEP: f64 = 0.03;

/// What the optimizer moves of one leaf.
#[derive(Debug)]
pub(crate) struct Moved {
    /// The leaf itself, moved in place.
    pub tensor: Tensor,
    /// The longest learning rate that it bears.
    pub longest: f64,
}

/// Makes gradients reach the model's leaves, each a tensor of its own from now on.
///
/// A step of Adam is about as long as the learning rate, however small the weights are: a layer fed by pixels of 0 to 255 has weights a
/// hundred times smaller than the next one's and would be overwritten by its first steps. So each leaf has a longest learning rate.
pub(crate) fn attach(model: &mut Model) -> Result<Vec<Moved>, StageError> {
    let mut moved = Vec::new();
    for (leaf, tensor) in leaves(model) {
        let size = match tensor.dim() {
            0 | 1 => 0.0,
            _ => tensor.f_square()?.f_mean(Kind::Double)?.f_sqrt()?.f_double_value(&[])?,
        };
        // Tensors that start at zero have no size to measure a step by.
        let longest = if size > 0.0 { LONGEST_STEP * size } else { f64::INFINITY };
        let variable = tensor.f_detach()?.copy().f_set_requires_grad(true)?;
        moved.push(Moved { tensor: variable.shallow_clone(), longest });
        match leaf {
            Leaf::Latent(name) => model.weight_mut(&name)?.set_latent(variable).map_err(StageError::weight(&name))?,
            Leaf::Centroids(names) => {
                for name in names {
                    if let Some(codebook) = model.weight_mut(&name)?.codebook_mut() {
                        codebook.set_centroids(variable.shallow_clone()).map_err(StageError::weight(&name))?;
                    }
                }
            }
            Leaf::WeightScale(name) => {
                let quantizer = model.weight_mut(&name)?.quantizer_mut();
                quantizer.map_or(Ok(()), |g| g.set_leaf(variable)).map_err(StageError::weight(&name))?;
            }
            Leaf::ActivationScale(name) => {
                let quantizer = model.activations.get_mut(&name);
                quantizer.map_or(Ok(()), |g| g.set_leaf(variable)).map_err(StageError::weight(&name))?;
            }
        }
    }
    Ok(moved)
}
