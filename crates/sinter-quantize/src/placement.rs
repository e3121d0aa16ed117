//! Which values of a graph are quantized.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{ElementType, Model, Node};

use crate::config::QuantizeConfig;

/// The values that get a grid.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// Values with a grid of their own.
    pub own: BTreeSet<String>,
    /// Values that take over the grid of another, because an operator only moved its elements.
    pub shared: Vec<(String, String)>,
}

/// Operators that integer kernels exist for in every runtime that Sinter exports to.
fn is_integer(node: &Node) -> bool {
    matches!(
        node.kind(),
        "Add"
            | "AveragePool"
            | "Clip"
            | "Concat"
            | "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "GlobalAveragePool"
            | "MatMul"
            | "Mul"
            | "Relu"
    ) || passes(node)
}

/// Operators that move values and keep their grid.
fn passes(node: &Node) -> bool {
    node.op.keeps_values() && !matches!(node.kind(), "Dropout" | "Gather" | "GatherElements" | "GatherND")
}

impl QuantizeConfig {
    /// The values that get a grid on the target.
    pub(crate) fn place(&self, model: &Model) -> Placement {
        place(model, &|node| is_integer(node) && self.profile.as_ref().is_none_or(|p| p.runs(node.kind())))
    }
}

/// Chooses the values: what integer operators read and write. A value whose only reader is a ReLU or Clip has none, since both run as
/// one with what is before them; the graph's outputs stay float.
fn place(model: &Model, is_integer: &dyn Fn(&Node) -> bool) -> Placement {
    let consumers = model.graph.consumers();
    let nodes = &model.graph.nodes;
    let fused = |value: &str| match consumers.get(value).map(Vec::as_slice) {
        Some([only]) => matches!(nodes[*only].kind(), "Relu" | "Clip") && nodes[*only].inputs[0] == value,
        _ => false,
    };
    let read_by_integer = |value: &str| {
        consumers.get(value).is_some_and(|c| c.iter().any(|&i| is_integer(&nodes[i]) && !model.weights.contains_key(value)))
    };
    let mut placement = Placement::default();
    let mut gridded: BTreeMap<&str, ()> = BTreeMap::new();
    for input in model.graph.inputs.iter().filter(|i| i.element == ElementType::Float) {
        if read_by_integer(&input.name) {
            placement.own.insert(input.name.clone());
            gridded.insert(&input.name, ());
        }
    }
    for node in nodes {
        let Some(output) = node.outputs.first() else { continue };
        if model.graph.is_output(output) || !is_integer(node) {
            // A float operator's result is quantized where an integer one reads it.
            if !is_integer(node) && read_by_integer(output) && !model.graph.is_output(output) && produces_float(node) {
                placement.own.insert(output.clone());
                gridded.insert(output, ());
            }
            continue;
        }
        if passes(node) {
            if gridded.contains_key(node.inputs[0].as_str()) {
                for output in node.outputs.iter().filter(|o| !o.is_empty() && !model.graph.is_output(o)) {
                    placement.shared.push((output.clone(), node.inputs[0].clone()));
                    gridded.insert(output, ());
                }
            }
        } else if matches!(node.kind(), "Gemm" | "MatMul") && !read_by_integer(output) {
            // Runtimes have products of integers with float results; what reads those is float anyway.
        } else if !fused(output) {
            placement.own.insert(output.clone());
            gridded.insert(output, ());
        }
    }
    // Chains of moves all point to the value at their start.
    let direct: BTreeMap<String, String> = placement.shared.iter().cloned().collect();
    for (_, from) in &mut placement.shared {
        while let Some(earlier) = direct.get(from) {
            *from = earlier.clone();
        }
    }
    placement
}

/// Whether a node's result is a float value (and not an index, a shape or a truth).
fn produces_float(node: &Node) -> bool {
    !matches!(
        node.kind(),
        "And"
            | "ArgMax"
            | "ArgMin"
            | "Cast"
            | "Equal"
            | "Greater"
            | "GreaterOrEqual"
            | "Less"
            | "LessOrEqual"
            | "NonZero"
            | "Not"
            | "Or"
            | "QuantizeLinear"
            | "Range"
            | "Shape"
            | "Size"
            | "Where"
            | "Xor"
    )
}
