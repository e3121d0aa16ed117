//! A batch normalisation that no layer could take in: a product and a sum.

use std::sync::Arc;

use sinter_model::Node;

use super::add::Add;
use super::mul::Mul;
use super::{Lowers, Prefers};
use crate::device::activation::Activation;
use crate::device::error::LowerError;
use crate::device::layout::Layout;
use crate::device::lowering::{Lowering, Want, float};

pub(super) const LOWERS: Lowers = Lowers { kinds: &["BatchNormalization"], prefers: Prefers::ChannelsLast, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let stored = |i: usize| node.inputs.get(i).and_then(|n| l.model.weights.get(n));
    let (Some(gamma), Some(beta), Some(mean), Some(var)) = (stored(1), stored(2), stored(3), stored(4)) else {
        return Lowering::refuse(node, "its statistics must be stored");
    };
    let [gamma, beta, mean, var] = [gamma, beta, mean, var].map(float);
    let epsilon = node.op.batch_norm().unwrap_or(1e-5);
    let factor = gamma?.f_div(&var?.f_add_scalar(epsilon)?.f_sqrt()?)?;
    let offset = beta?.f_sub(&mean?.f_mul(&factor)?)?;
    let rank = l.shape(&node.inputs[0])?.len();
    let layout = Layout::channels_last(rank);
    let (activation, output) = l.fused(node)?;
    let tensor = l.read(&node.inputs[0], Want::Float, &layout, &node.name)?;
    let info = l.like(tensor);
    let factor = l.literal(&factor, Want::Float)?;
    let product = Arc::new(Mul { activation: Activation::None });
    let product = l.step(product, vec![tensor, factor], info.clone(), &node.name);
    let offset = l.literal(&offset, Want::Float)?;
    let sum = Arc::new(Add { activation, subtract: false });
    let sum = l.step(sum, vec![product, offset], info, &node.name);
    l.define(&output, sum, layout, &node.name)
}
