//! What makes a channel dispensable, one file a criterion.
//!
//! To add one: a file with a documented struct of its options that implements [`Criterion`], and one line in the list below.

mod bn_scale;
mod geometric_median;
mod l1;
mod l2;
mod random;
mod taylor;

use std::collections::BTreeMap;
use std::fmt::Debug;

use sinter_model::{Model, to_f32s};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

use super::Needs;
use crate::channels::{Channel, Group};

/// A criterion over channels: the smallest scores go first.
pub trait Criterion: Debug + Send + Sync {
    /// What it looks at besides the weights.
    fn needs(&self) -> Needs {
        Needs::Weights
    }

    /// The score of each channel, by group.
    fn score(&self, model: &Model, groups: &[Group], context: &Context) -> Result<Vec<Vec<f64>>, StageError>;
}

sinter_model::choices! {
    /// What makes a channel dispensable.
    pub enum ChannelCriterion: dyn Criterion {
        "l1" => L1(l1::L1),
        "l2" => L2(l2::L2),
        "taylor" => Taylor(taylor::Taylor),
        "bn-scale" => BnScale(bn_scale::BnScale),
        "geometric-median" => GeometricMedian(geometric_median::GeometricMedian),
        "random" => Random(random::Random),
    }
    default L2
}

/// A number for each index of an axis of a tensor.
type PerIndex = BTreeMap<(String, usize), Vec<f64>>;

/// What `term` says of each output channel of every layer's weight (given its name, value and axis of output channels).
fn of_outputs(
    model: &Model,
    mut term: impl FnMut(&str, &Tensor, usize) -> Result<Vec<f64>, StageError>,
) -> Result<PerIndex, StageError> {
    let mut found = PerIndex::new();
    for layer in model.layers() {
        let value = model.weight(&layer.weight)?.effective().map_err(StageError::weight(&layer.weight))?.f_detach()?;
        let each = term(&layer.weight, &value, layer.slot.out_axis)?;
        found.insert((layer.weight, layer.slot.out_axis), each);
    }
    Ok(found)
}

/// The sum over each index of an axis.
fn sums(value: &Tensor, axis: usize) -> Result<Vec<f64>, StageError> {
    let others: Vec<i64> = (0..value.dim() as i64).filter(|&a| a != axis as i64).collect();
    let sums = to_f32s(&value.f_sum_dim_intlist(&others[..], false, Kind::Float)?)?;
    Ok(sums.into_iter().map(f64::from).collect())
}

/// The Euclidean norm over each index of an axis.
fn norms(value: &Tensor, axis: usize) -> Result<Vec<f64>, StageError> {
    let others: Vec<i64> = (0..value.dim() as i64).filter(|&a| a != axis as i64).collect();
    let sums = to_f32s(&value.f_square()?.f_sum_dim_intlist(&others[..], false, Kind::Float)?)?;
    Ok(sums.into_iter().map(|s| f64::from(s.sqrt())).collect())
}

/// The sum over what belongs to each channel, by group.
fn joined(groups: &[Group], each: &PerIndex) -> Vec<Vec<f64>> {
    let score = |channel: &Channel| {
        channel.units.iter().filter_map(|u| each.get(&(u.name.clone(), u.axis)).map(|s| s[u.index])).sum::<f64>()
    };
    groups.iter().map(|g| g.channels.iter().map(score).collect()).collect()
}
