//! What sums and products of two values share.

use std::sync::Arc;

use sinter_model::Node;

use tch::Tensor;

use super::image::{integers, result, wanted};
use crate::device::activation::Activation;
use crate::device::error::LowerError;
use crate::device::layout::Layout;
use crate::device::lowering::{Lowering, Want, float};
use crate::device::program::DeviceOperator;

/// How two values are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combines {
    Sum,
    Difference,
    Product,
}

/// Adds the step of a node that combines two values, `op` with the activation that runs as one with it.
pub(super) fn lower(
    l: &mut Lowering,
    node: &Node,
    how: Combines,
    op: impl FnOnce(Activation) -> Arc<dyn DeviceOperator>,
) -> Result<(), LowerError> {
    let (a, b) = (node.inputs[0].clone(), node.inputs[1].clone());
    let (activation, output) = l.fused(node)?;
    let value = l.shape(&node.outputs[0])?;
    let rank = value.len();
    let computed = |name: &String| !l.model.weights.contains_key(name);
    // Both lie as the first that was computed does, when it has all the axes.
    let layout = match [&a, &b].into_iter().find(|n| computed(n)).map(|n| l.layout(n)) {
        Some(Layout::Order(order)) if order.len() == rank => Layout::Order(order),
        _ => Layout::plain(rank),
    };
    let quantization = integers(l, &[&a, &b], &output)?;
    let want = wanted(&quantization);
    let mut inputs = Vec::new();
    for name in [&a, &b] {
        let shape = l.shape(name)?;
        inputs.push(match l.model.weights.get(name) {
            Some(weight) => {
                // Axes that broadcasting adds stand in front, then all are put in order.
                let wide = [vec![1; rank - shape.len()], shape].concat();
                let value = float(weight)?.f_reshape(wide)?;
                let value = if want == Want::Integer { bounded(l, &value, how, (&a, &b), name, &output)? } else { value };
                let Layout::Order(order) = &layout else { return Lowering::refuse(node, "reads a flattened image") };
                let order: Vec<i64> = order.iter().map(|&a| a as i64).collect();
                l.literal(&value.f_permute(order)?.f_contiguous()?, want)?
            }
            None if shape.len() == rank => l.read(name, want, &layout, &node.name)?,
            None => {
                let tensor = l.read(name, want, &Layout::plain(shape.len()), &node.name)?;
                if layout != Layout::plain(rank) {
                    return Lowering::refuse(node, "broadcasts a computed value over an image");
                }
                l.reshape(tensor, [vec![1; rank - shape.len()], shape].concat(), &node.name)
            }
        });
    }
    let info = result(layout.shape(&value), quantization);
    let tensor = l.step(op(activation), inputs, info, &node.name);
    l.define(&output, tensor, layout, &node.name)
}

/// A constant that joins a sum, no further from zero than can show in the result: a mask of -1e9 would leave no step of its common scale to the
/// other summand. Products pass as they are.
fn bounded(
    l: &Lowering,
    constant: &Tensor,
    how: Combines,
    (a, b): (&String, &String),
    name: &String,
    output: &str,
) -> Result<Tensor, LowerError> {
    let other = if name == a { b } else { a };
    let (Some(other), Some(result)) = (l.integers_of(other).or(l.quantizer(other)?), l.quantizer(output)?) else {
        return Ok(constant.shallow_clone());
    };
    let ((low, high), (least, most)) = (other.ends(), result.ends());
    let (from, to) = match how {
        Combines::Product => return Ok(constant.shallow_clone()),
        Combines::Sum => (least - high, most - low),
        Combines::Difference if name == a => (least + low, most + high),
        Combines::Difference => (low - most, high - least),
    };
    Ok(constant.f_clamp(f64::from(from), f64::from(to))?)
}
