//! What the optimizer moves: the leaves of a model, put into libtorch's store.

use sinter_exec::{Leaf, leaves};
use sinter_model::Model;
use tch::{Kind, nn};

use crate::error::StageError;

/// The most that one step of Adam may move a weight, as a share of the root mean square of its tensor.
const LONGEST_STEP: f64 = 0.03;

/// Puts the model's leaves into the store, one parameter group each, so that the optimizer changes them in place.
///
/// Returns the learning rate that each group bears. A step of Adam is about as long as the learning rate, however small the weights are: a
/// layer fed by pixels of 0 to 255 has weights a hundred times smaller than the next one's and would be overwritten by its first steps.
pub(crate) fn attach(model: &mut Model, store: &nn::VarStore) -> Result<Vec<f64>, StageError> {
    let mut longest = Vec::new();
    for (i, (leaf, tensor)) in leaves(model).into_iter().enumerate() {
        let size = match tensor.dim() {
            0 | 1 => 0.0,
            _ => tensor.f_square()?.f_mean(Kind::Double)?.f_sqrt()?.f_double_value(&[])?,
        };
        // Tensors that start at zero have no size to measure a step by.
        longest.push(if size > 0.0 { LONGEST_STEP * size } else { f64::INFINITY });
        let root = store.root().set_group(i);
        let variable = root.f_var_copy(&format!("p{i}"), &tensor.f_detach()?)?;
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
    Ok(longest)
}
