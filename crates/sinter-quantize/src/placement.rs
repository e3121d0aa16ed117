//! Which values of a graph are quantized.

use std::collections::{BTreeMap, BTreeSet};

use sinter_estimate::Rules;
use sinter_model::{Attributes, ElementType, Grid, Levels, Model, Node, OpResult};

use crate::config::{Format, QuantizeConfig};
use crate::read_through::read_through;

/// The values that get a grid.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// Values with a grid of their own.
    pub own: BTreeSet<String>,
    /// Of those, what an operator gives whose range is known without looking, and the operator.
    pub known: BTreeMap<String, String>,
    /// Values that take over the grid of another, because an operator only moved its elements.
    pub shared: Vec<(String, String)>,
}

impl Placement {
    /// The value whose grid a value has: its own, or that of the one it moves.
    pub fn source<'a>(&'a self, name: &'a str) -> &'a str {
        self.shared.iter().find(|(moved, _)| moved == name).map_or(name, |(_, from)| from)
    }

    /// Where a layer reads a value in fewer bits than another reader does (the shortcut past a residual block, most often), the layer
    /// gets a narrower copy to read, and the value keeps its bits. Returns how many copies were made.
    pub fn part(&mut self, config: &QuantizeConfig, model: &mut Model) -> OpResult<usize> {
        let formats: BTreeMap<usize, Option<Format>> =
            model.layers().iter().map(|l| (l.node, config.input_format(model, l))).collect();
        let mut most: BTreeMap<&str, u8> = BTreeMap::new();
        for (i, node) in model.graph.nodes.iter().enumerate() {
            let moves = node.outputs.first().is_some_and(|o| self.source(o) != o);
            for (slot, input) in node.inputs.iter().enumerate().filter(|(_, name)| self.own.contains(self.source(name))) {
                let bits = match formats.get(&i) {
                    Some(Some(format)) if slot == 0 => format.bits(),
                    Some(None) => continue,
                    _ if moves => continue,
                    _ => 8,
                };
                let wanted = most.entry(self.source(input)).or_insert(bits);
                *wanted = (*wanted).max(bits);
            }
        }
        let reads = |(&i, format): (&usize, &Option<Format>)| {
            let (input, format) = (model.graph.nodes[i].inputs.first()?, (*format)?);
            let narrower = most.get(self.source(input)).is_some_and(|&m| format.bits() < m);
            narrower.then(|| (i, model.free_name(&format!("{input}.{format}"))))
        };
        let narrow: BTreeMap<usize, String> = formats.iter().filter_map(reads).collect();
        let copies: BTreeSet<String> = narrow.values().cloned().collect();
        read_through(model, &narrow, |value, copy| {
            Ok(vec![Node::new(copy, "Identity", Attributes::new(), vec![value.into()], vec![copy.into()])?])
        })?;
        let count = copies.len();
        self.own.extend(copies);
        Ok(count)
    }
}

/// Operators that integer kernels exist for in every runtime that Sinter exports to.
fn is_integer(node: &Node, rules: Rules) -> bool {
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
        || (rules == Rules::Tflite
            && matches!(node.kind(), "HardSwish" | "LeakyRelu" | "ReduceMean" | "Sigmoid" | "Softmax" | "Sub" | "Tanh"))
}

/// Operators that move values and keep their grid.
fn passes(node: &Node) -> bool {
    node.op.keeps_values() && !matches!(node.kind(), "Dropout" | "Gather" | "GatherElements" | "GatherND")
}

/// The grid of what an operator gives whose range is known, in 8 bits (TensorFlow Lite 8-bit quantization specification); `None` for
/// all other operators.
pub(crate) fn known_grid(kind: &str, levels: Levels) -> OpResult<Option<Grid>> {
    let (scale, lowest) = match kind {
        "Sigmoid" | "Softmax" => (1.0 / 256.0, 0),
        "Tanh" => (1.0 / 128.0, -128),
        _ => return Ok(None),
    };
    let (bottom, _) = levels.range(8);
    Grid::new(8, levels, sinter_model::GridShape::Tensor, &[scale], &[bottom - lowest]).map(Some)
}

impl QuantizeConfig {
    /// The values that get a grid on the target.
    pub(crate) fn place(&self, model: &Model) -> Placement {
        let rules = self.profile.as_ref().map(|p| p.rules).unwrap_or_default();
        let runs = |node: &Node| is_integer(node, rules) && self.profile.as_ref().is_none_or(|p| p.runs(node.kind()));
        let averages = |node: &Node| matches!(node.kind(), "AveragePool" | "GlobalAveragePool");
        let keeps = |node: &Node| passes(node) || (rules == Rules::Tflite && averages(node));
        place(model, &runs, &keeps, rules)
    }
}

/// Chooses the values: what integer operators read and write. A value whose only reader is a ReLU or Clip has none, since both run as
/// one with what is before them.
fn place(model: &Model, is_integer: &dyn Fn(&Node) -> bool, passes: &dyn Fn(&Node) -> bool, rules: Rules) -> Placement {
    let consumers = model.graph.consumers();
    let nodes = &model.graph.nodes;
    let fused = |value: &str| match consumers.get(value).map(Vec::as_slice) {
        Some([only]) => matches!(nodes[*only].kind(), "Relu" | "Clip") && nodes[*only].inputs[0] == value,
        _ => false,
    };
    let read_by_integer = |value: &str| {
        consumers.get(value).is_some_and(|c| c.iter().any(|&i| is_integer(&nodes[i]) && !model.weights.contains_key(value)))
    };
    let stays_float = |value: &str| rules != Rules::Tflite && model.graph.is_output(value);
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
        if stays_float(output) || !is_integer(node) {
            // A float operator's result is quantized where an integer one reads it.
            if !is_integer(node) && read_by_integer(output) && !model.graph.is_output(output) && produces_float(node) {
                placement.own.insert(output.clone());
                gridded.insert(output, ());
            }
            continue;
        }
        if passes(node) {
            if gridded.contains_key(node.inputs[0].as_str()) {
                for output in node.outputs.iter().filter(|o| !o.is_empty() && !stays_float(o)) {
                    placement.shared.push((output.clone(), node.inputs[0].clone()));
                    gridded.insert(output, ());
                }
            }
        } else if rules != Rules::Tflite && matches!(node.kind(), "Gemm" | "MatMul") && !read_by_integer(output) {
            // Runtimes have products of integers with float results; what reads those is float anyway.
        } else if !fused(output) {
            placement.own.insert(output.clone());
            gridded.insert(output, ());
            if matches!(known_grid(node.kind(), Levels::Unsigned), Ok(Some(_))) {
                placement.known.insert(output.clone(), node.kind().to_string());
            }
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
