//! The graph with its encodings as ONNX says them: every quantized value passes through a pair of QuantizeLinear and DequantizeLinear, in
//! the layout that ONNX Runtime fuses; weights are stored as integers behind a DequantizeLinear, or in 16 bits behind a Cast; biases as
//! int32.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sinter_model::{
    Attributes, ElementType, Granularity, IntegerKernel, IoShapes, Model, Node, OpError, ParamsOf, Quantizer, Role, Weight,
};
use sinter_onnx::{OnnxError, Storage, drop_dead, save_narrow};
use tch::{Kind, Tensor};

use crate::dynamic::Lowering;
use crate::error::QdqError;
use crate::look_up::{self, stored_half, stored_integers};

/// A model in which nothing is implied any more: see [`explicit`].
#[derive(Debug)]
pub struct Explicit {
    /// The model.
    pub model: Model,
    /// Stored integers that a file should keep in four bits.
    pub four_bits: BTreeSet<String>,
}

impl Explicit {
    /// Writes it as ONNX.
    pub fn save(&self, path: &Path) -> Result<(), OnnxError> {
        save_narrow(&self.model, &self.four_bits, path, Storage::Inside)
    }
}

/// A copy of the model in which every quantizer is a pair of nodes, what is quantized by its own range meets integers, and no weight has a
/// chain any more. A model without quantizers comes back with its effective weights.
pub fn explicit(model: &Model) -> Result<Explicit, QdqError> {
    let mut out = Model { name: model.name.clone(), graph: model.graph.clone(), ..Model::default() };
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    let mut four_bits = BTreeSet::new();
    let mut head = Vec::new();
    let dynamic = Lowering::new(model);
    let quantized_inputs = weights_with_quantized_inputs(model, &dynamic);
    let tables = look_up::tables(model);
    for (name, weight) in &model.weights {
        let at = |source| QdqError { name: name.clone(), source };
        let value = weight.effective().map_err(at)?;
        let value = value.f_detach().map_err(|e| at(e.into()))?;
        match (weight.quantizer(), weight.half()) {
            (Some(quantizer), _) if !quantized_inputs.contains(name.as_str()) && widens_when_loaded(quantizer) => {
                let real = format!("{name}.float");
                head.extend(widened(&mut out, name, quantizer, &value, &real).map_err(at)?);
                renamed.insert(name.clone(), real);
            }
            // ONNX has integers of 4, 8 and 32 bits; in between the values go into int8.
            (Some(quantizer), _) if quantizer.bits() <= 8 || quantizer.bits() == 32 => {
                let stored = stored_integers(name);
                let kind = if quantizer.bits() == 32 { Kind::Int } else { quantizer.byte() };
                let q = quantizer.quantize(&value).and_then(|q| Ok(q.f_to_kind(kind)?)).map_err(at)?;
                out.weights.insert(stored.clone(), Weight::new(Role::Constant, q));
                let scale = store_scale(&mut out, name, quantizer, &weight.size(), kind).map_err(at)?;
                // Kernels of integers and look-ups want eight bits; without any, four are read and widened.
                if quantizer.bits() <= 4 && !quantized_inputs.contains(name.as_str()) && !tables.contains(name.as_str()) {
                    four_bits.extend([stored.clone(), scale[1].clone()]);
                }
                let attributes = match quantizer.granularity() {
                    Granularity::Tensor => Attributes::new(),
                    Granularity::Channel(axis) => Attributes::new().int("axis", axis as i64),
                    Granularity::Group { axis, size } => {
                        Attributes::new().int("axis", axis as i64).int("block_size", size as i64)
                    }
                };
                let real = format!("{name}.dequantized");
                let inputs = [vec![stored], scale].concat();
                head.push(Node::new(&real, "DequantizeLinear", attributes, inputs, vec![real.clone()]).map_err(at)?);
                renamed.insert(name.clone(), real);
            }
            // A Cast costs more than the two bytes of each number of a bias or table.
            (None, Some(half)) if weight.size().len() > 1 => {
                let (stored, real) = (stored_half(name, half), format!("{name}.float"));
                let short = value.f_to_kind(half.element().kind()).map_err(|e| at(e.into()))?;
                out.weights.insert(stored.clone(), Weight::new(weight.role, short));
                let float = Attributes::new().int("to", ElementType::Float.to_onnx() as i64);
                head.push(Node::new(&real, "Cast", float, vec![stored], vec![real.clone()]).map_err(at)?);
                renamed.insert(name.clone(), real);
            }
            _ => {
                out.weights.insert(name.clone(), Weight::new(weight.role, value.copy()));
            }
        }
    }
    let mut pairs: BTreeMap<&str, Vec<Node>> = BTreeMap::new();
    let quantized = quantized_values(model);
    let (consumers, mut shapes) = (model.graph.consumers(), None);
    for (&name, &quantizer) in &quantized {
        let at = |source| QdqError { name: name.to_string(), source };
        let scale = store_scale(&mut out, name, quantizer, &[], quantizer.byte()).map_err(at)?;
        let (q, real) = (format!("{name}.quantized"), dequantized(model, name));
        let mut nodes = Vec::new();
        let mut source = raw(model, &quantized, name);
        let raw = source.clone();
        if quantizer.bits() < 8 {
            // The integers of eight bits saturate later than the quantizer does.
            source = format!("{name}.clipped");
            let ends = store_ends(&mut out, name, quantizer).map_err(at)?;
            let inputs = [vec![raw], ends].concat();
            nodes.push(Node::new(&source, "Clip", Attributes::new(), inputs, vec![source.clone()]).map_err(at)?);
        }
        let inputs = [vec![source], scale.clone()].concat();
        nodes.push(Node::new(&q, "QuantizeLinear", Attributes::new(), inputs, vec![q.clone()]).map_err(at)?);
        let inputs = [vec![q], scale].concat();
        nodes.push(Node::new(&real, "DequantizeLinear", Attributes::new(), inputs, vec![real.clone()]).map_err(at)?);
        let readers = consumers.get(name).into_iter().flatten().map(|&i| &model.graph.nodes[i]);
        let readers: Vec<&Node> = readers.filter(|n| stays_real(model, n)).collect();
        if !readers.is_empty() {
            let shape = shapes.get_or_insert_with(|| sinter_exec::shapes(model).unwrap_or_default()).get(name);
            let axis = shape.and_then(|shape| feature_axis(model, &readers, &quantized_inputs, shape));
            nodes.extend(for_floats(&mut out, name, quantizer, axis).map_err(at)?);
        }
        pairs.insert(name, nodes);
        renamed.insert(name.to_string(), real);
    }
    let mut nodes = head;
    for input in &model.graph.inputs {
        nodes.extend(pairs.remove(input.name.as_str()).into_iter().flatten());
    }
    for node in &model.graph.nodes {
        let replaced = match look_up::rows(node, model, &mut out)? {
            None => dynamic.layer(node, &mut out)?,
            rows => rows,
        };
        for mut node in replaced.unwrap_or_else(|| vec![node.clone()]) {
            let real = stays_real(model, &node);
            for name in &mut node.inputs {
                if real && quantized.contains_key(name.as_str()) {
                    *name = format!("{name}{FOR_FLOATS}");
                } else if let Some(new) = renamed.get(name) {
                    *name = new.clone();
                }
            }
            for name in &mut node.outputs {
                *name = raw(model, &quantized, name);
            }
            nodes.push(node);
        }
        for name in &node.outputs {
            nodes.extend(pairs.remove(name.as_str()).into_iter().flatten());
        }
    }
    out.graph.nodes = nodes;
    drop_dead(&mut out);
    Ok(Explicit { model: out, four_bits })
}

/// What floats read of a quantized value.
const FOR_FLOATS: &str = ".real";

/// Whether a node that reads quantized values is to compute with real numbers: it was found faster so, or its weight has no integers.
fn stays_real(model: &Model, node: &Node) -> bool {
    node.in_float || stored_weight(model, node).is_some_and(|w| w.quantizer().is_none())
}

/// The stored weight that a layer multiplies its first input with.
fn stored_weight<'a>(model: &'a Model, node: &Node) -> Option<&'a Weight> {
    let inputs = node.inputs.iter().map(|n| model.weights.get(n).map(Weight::size)).collect();
    let slots = node.op.weights(&IoShapes { inputs, outputs: vec![] });
    slots.iter().find(|s| s.input == 1).and_then(|s| model.weights.get(node.inputs.get(s.input)?))
}

/// The axis of what all readers multiply with a weight of real numbers, and its length: scales along it part no layer. `None` where another reads
/// the value too, or where the axis has one element.
fn feature_axis(model: &Model, readers: &[&Node], in_integers: &BTreeSet<&str>, shape: &[i64]) -> Option<(usize, i64)> {
    let axis = |node: &&Node| {
        let Some(IntegerKernel::Product { convolution, .. }) = node.op.integer_kernel() else { return None };
        let real = stored_weight(model, node).is_some() && !in_integers.contains(node.inputs[1].as_str());
        real.then(|| if convolution { 1 } else { shape.len() - 1 })
    };
    let axes: Option<BTreeSet<usize>> = readers.iter().map(axis).collect();
    let axes = axes?;
    let axis = *axes.first()?;
    let length = *shape.get(axis)?;
    (axes.len() == 1 && axis > 0 && length > 1).then_some((axis, length))
}

/// A quantized value as real numbers, in a form that ONNX Runtime does not take for a part of an integer operator. Behind a DequantizeLinear with one scale it
/// computes what can be in integers, and gives a Conv or Gemm of float weights weights of eight bits of its own. Before such a layer scales along an axis (`axis`, with its
/// length), though all alike, keep it from that; before anything else plain arithmetic does.
fn for_floats(out: &mut Model, name: &str, quantizer: &Quantizer, axis: Option<(usize, i64)>) -> Result<Vec<Node>, OpError> {
    let (scale, zero) = (quantizer.scales()?[0], quantizer.zero_points()?[0]);
    let (integers, real) = (stored_integers(name), format!("{name}{FOR_FLOATS}"));
    let Some((axis, length)) = axis else {
        return plain(out, integers, Tensor::from(scale), Tensor::from(zero as f32), &real);
    };
    let mut store = |what: &str, value: Tensor| store(out, format!("{real}.{what}"), value);
    let scales = store("scale", Tensor::f_full([length], f64::from(scale), (Kind::Float, tch::Device::Cpu))?);
    let zeros = store("zero_point", Tensor::f_full([length], zero, (quantizer.byte(), tch::Device::Cpu))?);
    let attributes = Attributes::new().int("axis", axis as i64);
    Ok(vec![Node::new(&real, "DequantizeLinear", attributes, vec![integers, scales, zeros], vec![real.clone()])?])
}

/// Integers as real numbers by plain arithmetic: `(integers - zeros) * scale`. Nothing is subtracted where all zeros are 0.
fn plain(out: &mut Model, integers: String, scale: Tensor, zeros: Tensor, real: &str) -> Result<Vec<Node>, OpError> {
    let node = |kind: &str, attributes, inputs: Vec<String>, output: &str| {
        Node::new(output, kind, attributes, inputs, vec![output.to_string()])
    };
    let mut wide = format!("{real}.wide");
    let float = Attributes::new().int("to", ElementType::Float.to_onnx() as i64);
    let mut nodes = vec![node("Cast", float, vec![integers], &wide)?];
    if zeros.f_count_nonzero(None)?.f_int64_value(&[])? > 0 {
        let (zeros, centred) = (store(out, format!("{real}.zero_point"), zeros), format!("{real}.centred"));
        nodes.push(node("Sub", Attributes::new(), vec![wide, zeros], &centred)?);
        wide = centred;
    }
    let scale = store(out, format!("{real}.scale"), scale);
    nodes.push(node("Mul", Attributes::new(), vec![wide, scale], real)?);
    Ok(nodes)
}

/// Keeps a tensor of the file, and gives its name.
fn store(out: &mut Model, name: String, value: Tensor) -> String {
    out.weights.insert(name.clone(), Weight::new(Role::Constant, value));
    name
}

/// Whether a weight that no kernel reads in integers is written so that runtimes widen it once, when they load a file: they compute what constants
/// give then, but leave a DequantizeLinear to every inference. Up to four bits the DequantizeLinear stays, since kernels exist that read those as they are, and for groups,
/// which would not broadcast.
fn widens_when_loaded(quantizer: &Quantizer) -> bool {
    (5..=8).contains(&quantizer.bits()) && !matches!(quantizer.granularity(), Granularity::Group { .. })
}

/// A weight's integers, stored, and the nodes that make them real numbers.
fn widened(out: &mut Model, name: &str, quantizer: &Quantizer, value: &Tensor, real: &str) -> Result<Vec<Node>, OpError> {
    let shape = match quantizer.granularity() {
        Granularity::Channel(axis) => (0..value.dim()).map(|a| if a == axis { value.size()[a] } else { 1 }).collect(),
        _ => vec![],
    };
    let integers = store(out, stored_integers(name), quantizer.quantize(value)?.f_to_kind(quantizer.byte())?);
    let zeros: Vec<f32> = quantizer.zero_points()?.into_iter().map(|z| z as f32).collect();
    let broad = |values: &[f32]| -> Result<Tensor, OpError> { Ok(Tensor::f_from_slice(values)?.f_reshape(&shape[..])?) };
    plain(out, integers, broad(&quantizer.scales()?)?, broad(&zeros)?, real)
}

/// The quantizer of each value that has one, and of what only moves elements of such a value: rounding it once more changes nothing, and ONNX Runtime
/// 1.32 refuses what it makes of a movement without (a QuantizeLinear of two types, from opset 21 on).
fn quantized_values(model: &Model) -> BTreeMap<&str, &Quantizer> {
    let mut all: BTreeMap<&str, &Quantizer> = model.activations.iter().map(|(name, q)| (name.as_str(), q)).collect();
    for node in
        model.graph.nodes.iter().filter(|n| !n.in_float && n.op.quantization().params == ParamsOf::Input && n.outputs.len() == 1)
    {
        let source = node.inputs.first().and_then(|x| all.get(x.as_str()).copied());
        if let Some(quantizer) = source.filter(|q| q.granularity() == Granularity::Tensor) {
            all.entry(&node.outputs[0]).or_insert(quantizer);
        }
    }
    all
}

/// The name under which a value is computed. An output of the graph keeps its name for what comes out of its quantizer, as the simulation has it.
fn raw(model: &Model, quantized: &BTreeMap<&str, &Quantizer>, name: &str) -> String {
    let quantized_output = quantized.contains_key(name) && model.graph.is_output(name) && !is_input(model, name);
    if quantized_output { format!("{name}.raw") } else { name.to_string() }
}

/// The name of a quantized value as floats.
pub fn dequantized(model: &Model, name: &str) -> String {
    let output = model.graph.is_output(name) && !is_input(model, name);
    if output { name.to_string() } else { format!("{name}.dequantized") }
}

fn is_input(model: &Model, name: &str) -> bool {
    model.graph.inputs.iter().any(|i| i.name == name)
}

/// The weights of layers that read a value in integers.
fn weights_with_quantized_inputs<'a>(model: &'a Model, dynamic: &Lowering) -> BTreeSet<&'a str> {
    let quantized = model
        .graph
        .nodes
        .iter()
        .filter(|node| model.integers_read(node).is_some() || node.inputs.first().is_some_and(|x| dynamic.is_quantized(x)));
    quantized.flat_map(|node| node.inputs[1..].iter().map(String::as_str)).collect()
}

/// Stores the smallest and the largest value of a quantizer per tensor; returns their names.
fn store_ends(out: &mut Model, name: &str, quantizer: &Quantizer) -> Result<Vec<String>, OpError> {
    let (low, high) = quantizer.range();
    let (scale, zero) = (quantizer.scales()?[0], quantizer.zero_points()?[0]);
    let ends = [("low", low), ("high", high)].map(|(end, q)| {
        let stored = format!("{name}.{end}");
        let value = Tensor::from((q - zero) as f32 * scale);
        out.weights.insert(stored.clone(), Weight::new(Role::Constant, value));
        stored
    });
    Ok(ends.to_vec())
}

/// Stores scale and zero point; returns their names. Integers of fewer bits than their type keep to their range by construction.
fn store_scale(out: &mut Model, name: &str, quantizer: &Quantizer, of: &[i64], kind: Kind) -> Result<Vec<String>, OpError> {
    let shape = quantizer.granularity().blocks(of);
    let scale = Tensor::f_from_slice(&quantizer.scales()?)?.f_reshape(&shape[..])?;
    let zero = Tensor::f_from_slice(&quantizer.zero_points()?)?.f_reshape(&shape[..])?.f_to_kind(kind)?;
    let names = vec![format!("{name}.scale"), format!("{name}.zero_point")];
    out.weights.insert(names[0].clone(), Weight::new(Role::Constant, scale));
    out.weights.insert(names[1].clone(), Weight::new(Role::Constant, zero));
    Ok(names)
}
