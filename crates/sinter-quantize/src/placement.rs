//! Which values of a graph are quantized.

use std::collections::{BTreeMap, BTreeSet};

use sinter_calibrate::Relevant;
use sinter_estimate::Rules;
use sinter_model::{Attributes, Computes, ElementType, End, Matters, Model, Node, OpResult, OutputRange, ParamsOf, to_f32s};

use crate::formats::{Format, Number};
use crate::in_float::better_in_float;
use crate::read_through::read_through;
use crate::resolved::Resolved;

/// The values that get a quantizer.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// Values with a quantizer of their own.
    pub own: BTreeSet<String>,
    /// Of those, what an operator gives whose range is known without looking.
    pub known: BTreeMap<String, OutputRange>,
    /// The part of some of them that can show in what reads them.
    pub relevant: BTreeMap<String, Relevant>,
    /// Values that take over the quantizer of another, because an operator only moved its elements.
    pub shared: Vec<(String, String)>,
}

impl Placement {
    /// The value whose quantizer a value has: its own, or that of the one it moves.
    pub fn source<'a>(&'a self, name: &'a str) -> &'a str {
        self.shared.iter().find(|(moved, _)| moved == name).map_or(name, |(_, from)| from)
    }

    /// Where a layer reads a value in fewer bits than another reader does (the shortcut past a residual block, most often), the layer
    /// gets a narrower copy to read, and the value keeps its bits. Returns how many copies were made.
    pub fn part(&mut self, resolved: &Resolved, model: &mut Model) -> OpResult<usize> {
        let formats: BTreeMap<usize, Option<Format>> = model.layers().iter().map(|l| (l.node, resolved.input(l))).collect();
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

/// The product that an activation runs as one kernel with, by its index.
pub(crate) fn product_before(nodes: &[Node], producers: &BTreeMap<&str, usize>, node: usize) -> Option<usize> {
    let input = nodes[node].inputs.first().filter(|_| nodes[node].op.quantization().fuses)?;
    producers.get(input.as_str()).copied().filter(|&before| nodes[before].op.is_product())
}

/// Whether a node only moves the elements of a value, so that both have one quantizer.
pub(crate) fn moves(node: &Node, rules: Rules) -> bool {
    match node.op.quantization().params {
        ParamsOf::Own => false,
        ParamsOf::Input => true,
        ParamsOf::InputUnderTflite => rules == Rules::Tflite,
    }
}

/// The nodes that the target's kernels compute in integers, by index, less those that had better not be.
pub(crate) fn in_integers(model: &Model, resolved: &Resolved) -> BTreeSet<usize> {
    let rules = resolved.rules();
    let runs = |node: &Node| {
        let computes = match node.op.quantization().computes {
            Computes::Float => false,
            Computes::Integers => true,
            Computes::IntegersUnderTflite => rules == Rules::Tflite,
        };
        computes && resolved.runs(node.kind())
    };
    let float = match rules {
        Rules::Tflite => BTreeSet::new(),
        _ => better_in_float(model, &runs, &|node| moves(node, rules)),
    };
    // Weights that stay in float make the layer one of floats.
    let real = |node: &Node| {
        let formats = node.inputs.get(1).and_then(|weight| resolved.layers.get(weight));
        rules != Rules::Tflite && formats.is_some_and(|f| !matches!(f.weight.map(|w| w.number), Some(Number::Integer { .. })))
    };
    let kept = |node: &Node| !node.outputs.first().is_some_and(|output| float.contains(output));
    let nodes = &model.graph.nodes;
    let able = |i: &usize| !nodes[*i].in_float && runs(&nodes[*i]) && kept(&nodes[*i]) && !real(&nodes[*i]);
    let mut found: BTreeSet<usize> = (0..nodes.len()).filter(able).collect();
    if rules != Rules::Tflite {
        // An activation runs as one with the product before it, in whatever that computes with.
        let producers = model.graph.producers();
        for i in 0..nodes.len() {
            if product_before(nodes, &producers, i).is_some_and(|before| !found.contains(&before)) {
                found.remove(&i);
            }
        }
    }
    found
}

/// The values that get a quantizer where `integer` nodes, by index, are computed in integers.
pub(crate) fn place(model: &Model, resolved: &Resolved, integer: &BTreeSet<usize>) -> Placement {
    let rules = resolved.rules();
    let mut placement = choose(model, &|i| integer.contains(&i), &|node| moves(node, rules), rules);
    placement.relevant = placement.own.iter().filter_map(|name| Some((name.clone(), relevant(model, name)?))).collect();
    placement
}

/// The part of a value that can show in any of its readers; `None` where all of it can.
fn relevant(model: &Model, name: &str) -> Option<Relevant> {
    if model.graph.is_output(name) {
        return None;
    }
    let mut whole: Option<Relevant> = None;
    for node in model.graph.nodes.iter().filter(|n| !n.op.reads_shape()) {
        for slot in (0..node.inputs.len()).filter(|&i| node.inputs[i] == name) {
            let part = match node.op.matters(slot) {
                Matters::All => return None,
                Matters::NearLargest { axis } => Relevant::NearLargest(axis),
                Matters::Between(low, high) => {
                    let ends = (end(model, node, low, f32::min), end(model, node, high, f32::max));
                    Relevant::Between(ends.0.unwrap_or(f32::NEG_INFINITY), ends.1.unwrap_or(f32::INFINITY))
                }
            };
            whole = Some(match whole {
                Some(whole) => whole.join(part)?,
                None => part,
            });
        }
    }
    whole.filter(|part| *part != Relevant::Between(f32::NEG_INFINITY, f32::INFINITY))
}

/// Where values cease to matter to a node: of several numbers the outermost.
fn end(model: &Model, node: &Node, end: End, outer: impl Fn(f32, f32) -> f32) -> Option<f32> {
    match end {
        End::Open => None,
        End::At(value) => Some(value as f32),
        End::Input(slot) => {
            let stored = model.weights.get(node.inputs.get(slot)?)?.effective().ok()?;
            to_f32s(&stored.f_to_kind(tch::Kind::Float).ok()?).ok()?.into_iter().reduce(outer).filter(|v| v.is_finite())
        }
    }
}

/// Chooses the values: what integer operators read and write. A value whose only reader is a ReLU or Clip has none, since both run as
/// one with what is before them.
fn choose(model: &Model, is_integer: &dyn Fn(usize) -> bool, passes: &dyn Fn(&Node) -> bool, rules: Rules) -> Placement {
    let consumers = model.graph.consumers();
    let nodes = &model.graph.nodes;
    let fused = |value: &str| match consumers.get(value).map(Vec::as_slice) {
        Some([only]) => nodes[*only].op.quantization().fuses && nodes[*only].inputs[0] == value,
        _ => false,
    };
    let read_by_integer = |value: &str| {
        consumers.get(value).is_some_and(|c| c.iter().any(|&i| is_integer(i) && !model.weights.contains_key(value)))
    };
    let stays_float = |value: &str| rules != Rules::Tflite && model.graph.is_output(value);
    let mut placement = Placement::default();
    let mut quantized: BTreeSet<&str> = BTreeSet::new();
    for input in model.graph.inputs.iter().filter(|i| i.element == ElementType::Float) {
        if read_by_integer(&input.name) {
            placement.own.insert(input.name.clone());
            quantized.insert(&input.name);
        }
    }
    for (i, node) in nodes.iter().enumerate() {
        let Some(output) = node.outputs.first() else { continue };
        if stays_float(output) || !is_integer(i) {
            // A float operator's result is quantized where an integer one reads it.
            if !is_integer(i) && read_by_integer(output) && !model.graph.is_output(output) && node.op.gives_reals() {
                placement.own.insert(output.clone());
                quantized.insert(output);
            }
            continue;
        }
        if passes(node) {
            if quantized.contains(node.inputs[0].as_str()) {
                for output in node.outputs.iter().filter(|o| !o.is_empty() && !stays_float(o)) {
                    placement.shared.push((output.clone(), node.inputs[0].clone()));
                    quantized.insert(output);
                }
            }
        } else if rules != Rules::Tflite && node.op.quantization().float_result && !read_by_integer(output) {
            // Runtimes have products of integers with float results; what reads those is float anyway.
        } else if !fused(output) {
            placement.own.insert(output.clone());
            quantized.insert(output);
            if let Some(range) = node.op.quantization().range {
                placement.known.insert(output.clone(), range);
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
