//! From a model to a program: which values are integers, in which order their axes lie, and what must stand between two operators that
//! disagree.

use std::collections::{BTreeMap, BTreeSet};

use sinter_exec::ExecError;
use sinter_model::{Grid, GridShape, Half, Levels, Model, Node, OpError, Weight, fold_batch_norm, to_f32s, to_i64s};
use tch::{Kind, Tensor};

use super::layout::{Layout, reorder};
use super::{Activation, Element, Op, Program, Quantization, Step, TensorInfo};

/// Why a model has no program.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    #[error("node `{node}` ({kind}): {reason}")]
    Node { node: String, kind: String, reason: String },
    #[error("value `{value}`: {reason}")]
    Value { value: String, reason: String },
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Op(#[from] OpError),
}

impl From<tch::TchError> for LowerError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}

/// The program of a model for one sample at a time. Errors on an operator that TensorFlow Lite lacks, with its node and the reason.
pub fn lower(model: &Model) -> Result<Program, LowerError> {
    let mut model = model.copy();
    fold_batch_norm(&mut model)?;
    let shapes = sinter_exec::shapes(&model)?;
    let mut lowering = Lowering {
        readers: readers(&model),
        model: &model,
        shapes,
        program: Program { name: model.name.clone(), ..Program::default() },
        stored: BTreeMap::new(),
        taken: BTreeSet::new(),
    };
    lowering.run()?;
    Ok(lowering.program)
}

/// The nodes that read each value; a graph output counts as one more that is none of them.
fn readers(model: &Model) -> BTreeMap<String, Vec<usize>> {
    let mut readers: BTreeMap<String, Vec<usize>> =
        model.graph.consumers().into_iter().map(|(name, nodes)| (name.to_string(), nodes)).collect();
    for output in &model.graph.outputs {
        readers.entry(output.name.clone()).or_default().push(usize::MAX);
    }
    readers
}

/// A value in the program: one tensor for each kind of element that somebody asked for.
struct Stored {
    layout: Layout,
    tensors: Vec<usize>,
}

/// What a reader wants of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Float,
    Integer,
}

pub(super) struct Lowering<'a> {
    pub model: &'a Model,
    pub shapes: BTreeMap<String, Vec<i64>>,
    pub program: Program,
    readers: BTreeMap<String, Vec<usize>>,
    stored: BTreeMap<String, Stored>,
    /// Nodes that run as one with what is before them.
    taken: BTreeSet<usize>,
}

impl Lowering<'_> {
    fn run(&mut self) -> Result<(), LowerError> {
        let model = self.model;
        for input in &model.graph.inputs {
            let layout = self.preferred(&input.name);
            let shape = layout.shape(&self.shapes[&input.name]);
            let quantization = self.grid(&input.name)?;
            let element = if quantization.is_some() { Element::Int8 } else { Element::Float32 };
            let tensor = self.tensor(TensorInfo { name: short(&input.name, "input"), shape, element, quantization, data: None });
            self.program.inputs.push(tensor);
            if let Layout::Order(order) = &layout {
                self.program.input_orders.push(order.clone());
            }
            self.stored.insert(input.name.clone(), Stored { layout, tensors: vec![tensor] });
        }
        for (i, node) in model.graph.nodes.iter().enumerate() {
            if !self.taken.contains(&i) {
                self.node(node)?;
            }
        }
        for output in &model.graph.outputs {
            let wanted = if self.grid(&output.name)?.is_some() { Want::Integer } else { Want::Float };
            let rank = self.shape(&output.name)?.len();
            let layout = match self.stored.get(&output.name).map(|s| s.layout.clone()) {
                Some(Layout::Order(order)) if rank == 4 => Layout::Order(order),
                _ => Layout::plain(rank),
            };
            let tensor = self.read(&output.name, wanted, &layout, &output.name)?;
            self.program.tensors[tensor].name = short(&output.name, "output");
            self.program.outputs.push(tensor);
        }
        Ok(())
    }

    /// The error of a node.
    pub fn refuse<T>(node: &Node, reason: impl Into<String>) -> Result<T, LowerError> {
        Err(LowerError::Node { node: node.name.clone(), kind: node.kind().to_string(), reason: reason.into() })
    }

    /// The shape of a value for one sample.
    pub fn shape(&self, name: &str) -> Result<Vec<i64>, LowerError> {
        self.shapes.get(name).cloned().ok_or_else(|| LowerError::Value { value: name.into(), reason: "has no shape".into() })
    }

    /// How the input of a graph is best stored: channels last where its first reader slides over it.
    fn preferred(&self, input: &str) -> Layout {
        let rank = self.shapes.get(input).map_or(0, Vec::len);
        let mut name = input;
        for _ in 0..self.model.graph.nodes.len() {
            let Some(node) = self.readers.get(name).and_then(|r| self.model.graph.nodes.get(*r.first()?)) else { break };
            match node.kind() {
                "AveragePool" | "BatchNormalization" | "Conv" | "GlobalAveragePool" | "GlobalMaxPool" | "MaxPool" => {
                    return Layout::channels_last(rank);
                }
                "Add" | "Clip" | "Identity" | "Mul" | "Pad" | "Relu" | "Sub" => name = &node.outputs[0],
                _ => break,
            }
        }
        Layout::plain(rank)
    }

    /// The quantization of a value in eight signed bits; `None` for a float value.
    pub fn grid(&self, name: &str) -> Result<Option<Quantization>, LowerError> {
        let Some(grid) = self.model.activations.get(name) else { return Ok(None) };
        if grid.bits() != 8 {
            let reason = format!("is quantized to {} bits; kernels for activations have 8", grid.bits());
            return Err(LowerError::Value { value: name.into(), reason });
        }
        let shift = if grid.levels() == Levels::Unsigned { 128 } else { 0 };
        Ok(Some(Quantization::tensor(grid.scales()?[0], (grid.zero_points()?[0] - shift) as i32)))
    }

    /// The layout of a value that a node computed; plain for what is stored.
    pub fn layout(&self, name: &str) -> Layout {
        let plain = || Layout::plain(self.shapes.get(name).map_or(0, Vec::len));
        self.stored.get(name).map_or_else(plain, |s| s.layout.clone())
    }

    /// Whether a value is there in integers. A constant can be made so.
    pub fn is_integer(&self, name: &str) -> bool {
        match self.stored.get(name) {
            Some(stored) => stored.tensors.iter().any(|&t| self.program.tensors[t].element == Element::Int8),
            None => self.model.weights.contains_key(name),
        }
    }

    /// The quantization that a value has in integers.
    pub fn integers_of(&self, name: &str) -> Option<Quantization> {
        let tensors = &self.stored.get(name)?.tensors;
        let info = tensors.iter().map(|&t| &self.program.tensors[t]).find(|t| t.element == Element::Int8)?;
        info.quantization.clone()
    }

    /// The tensor of a value, with what it takes to have it as wanted.
    pub fn read(&mut self, name: &str, want: Want, layout: &Layout, node: &str) -> Result<usize, LowerError> {
        if !self.stored.contains_key(name) {
            return self.constant(name, want, layout);
        }
        let element = if want == Want::Integer { Element::Int8 } else { Element::Float32 };
        let stored = &self.stored[name];
        let have = stored.layout.clone();
        let found = stored.tensors.iter().copied().find(|&t| self.program.tensors[t].element == element);
        let tensor = match (found, stored.tensors.first().copied()) {
            (Some(tensor), _) => tensor,
            (None, Some(other)) => {
                let (op, quantization) = match want {
                    Want::Float => (Op::Dequantize, None),
                    Want::Integer => (Op::Quantize, self.grid(name)?),
                };
                let shape = self.program.tensors[other].shape.clone();
                let info = TensorInfo { name: String::new(), shape, element, quantization, data: None };
                let tensor = self.step(op, vec![other], info, node);
                if let Some(stored) = self.stored.get_mut(name) {
                    stored.tensors.push(tensor);
                }
                tensor
            }
            (None, None) => return Err(LowerError::Value { value: name.into(), reason: "has no tensor".into() }),
        };
        self.arrange(tensor, &self.shape(name)?, &have, layout, node)
    }

    /// Brings a tensor of a value from one layout to another.
    fn arrange(&mut self, tensor: usize, value: &[i64], from: &Layout, to: &Layout, node: &str) -> Result<usize, LowerError> {
        if from == to || (from.is_plain(value) && to.is_plain(value) && from.shape(value) == to.shape(value)) {
            return Ok(tensor);
        }
        if from.is_plain(value) && to.is_plain(value) {
            return Ok(self.reshape(tensor, to.shape(value), node));
        }
        match (from, to) {
            (Layout::Order(a), Layout::Order(b)) => {
                let order = reorder(a, b);
                Ok(self.transpose(tensor, order, node))
            }
            (Layout::Flat { channels, positions }, Layout::Order(_)) => {
                let wide = self.reshape(tensor, vec![value[0], *positions, *channels], node);
                let turned = self.transpose(wide, vec![0, 2, 1], node);
                Ok(self.reshape(turned, value.to_vec(), node))
            }
            _ => Err(LowerError::Value { value: node.into(), reason: format!("can't go from {from:?} to {to:?}") }),
        }
    }

    /// Adds a step that only moves elements.
    pub fn reshape(&mut self, tensor: usize, shape: Vec<i64>, node: &str) -> usize {
        if self.program.tensors[tensor].shape == shape {
            return tensor;
        }
        // The batch stays free, for runtimes that resize it.
        let target: Vec<i32> = shape.iter().enumerate().map(|(i, &n)| if i == 0 { -1 } else { n as i32 }).collect();
        let target = self.int32s(&target, &[target.len() as i64]);
        let info = TensorInfo { name: String::new(), shape: shape.clone(), ..self.like(tensor) };
        self.step(Op::Reshape { shape }, vec![tensor, target], info, node)
    }

    fn transpose(&mut self, tensor: usize, order: Vec<usize>, node: &str) -> usize {
        let shape = order.iter().map(|&a| self.program.tensors[tensor].shape[a]).collect();
        let wanted: Vec<i32> = order.iter().map(|&a| a as i32).collect();
        let permutation = self.int32s(&wanted, &[wanted.len() as i64]);
        let info = TensorInfo { name: String::new(), shape, ..self.like(tensor) };
        self.step(Op::Transpose { order }, vec![tensor, permutation], info, node)
    }

    /// A tensor's type, without its elements.
    pub fn like(&self, tensor: usize) -> TensorInfo {
        let t = &self.program.tensors[tensor];
        TensorInfo { name: String::new(), data: None, ..t.clone() }
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, info: TensorInfo) -> usize {
        self.program.tensors.push(info);
        self.program.tensors.len() - 1
    }

    /// Adds a constant of 32-bit integers.
    pub fn int32s(&mut self, values: &[i32], shape: &[i64]) -> usize {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let info = TensorInfo {
            name: String::new(),
            shape: shape.to_vec(),
            element: Element::Int32,
            quantization: None,
            data: Some(data),
        };
        self.tensor(info)
    }

    /// Adds a step and its result.
    pub fn step(&mut self, op: Op, inputs: Vec<usize>, info: TensorInfo, node: &str) -> usize {
        let output = self.tensor(TensorInfo { name: short(node, "value"), ..info });
        self.program.steps.push(Step { op, inputs, output, node: node.to_string() });
        output
    }

    /// Registers the tensor of a value. A value on a grid is there in integers of that grid and nothing else, so that every reader sees
    /// what it was rounded to.
    pub fn define(&mut self, name: &str, tensor: usize, layout: Layout, node: &str) -> Result<(), LowerError> {
        let wanted = self.grid(name)?;
        let have = &self.program.tensors[tensor];
        let tensor = match &wanted {
            Some(_) if have.quantization != wanted || have.element != Element::Int8 => {
                let info = TensorInfo { element: Element::Int8, quantization: wanted, ..self.like(tensor) };
                self.step(Op::Quantize, vec![tensor], info, node)
            }
            _ => tensor,
        };
        self.stored.insert(name.to_string(), Stored { layout, tensors: vec![tensor] });
        Ok(())
    }

    /// Registers a value that has the tensors of another.
    pub fn alias(&mut self, name: &str, of: &str, layout: Layout, node: &str) -> Result<(), LowerError> {
        match self.stored.get(of).and_then(|s| s.tensors.first().copied()) {
            Some(tensor) => self.define(name, tensor, layout, node),
            None => {
                let tensor = self.constant(of, Want::Float, &self.layout(of))?;
                self.define(name, tensor, layout, node)
            }
        }
    }

    /// The ReLU or Clip that can run as one with the node that makes `output`: its activation, and the name of what it gives.
    pub fn fused(&mut self, node: &Node) -> Result<(Activation, String), LowerError> {
        let output = node.outputs[0].clone();
        let next = match self.readers.get(&output).map(Vec::as_slice) {
            Some([only]) if !self.model.activations.contains_key(&output) => *only,
            _ => return Ok((Activation::None, output)),
        };
        let Some(reader) = self.model.graph.nodes.get(next).filter(|n| n.inputs[0] == output) else {
            return Ok((Activation::None, output));
        };
        match self.activation(reader)? {
            Some(activation) => {
                self.taken.insert(next);
                Ok((activation, reader.outputs[0].clone()))
            }
            None => Ok((Activation::None, output)),
        }
    }

    /// The activation that a ReLU or Clip is; `None` for any other node, and for ends that no kernel has.
    pub fn activation(&self, node: &Node) -> Result<Option<Activation>, LowerError> {
        if node.kind() == "Relu" {
            return Ok(Some(Activation::Relu));
        }
        if node.kind() != "Clip" {
            return Ok(None);
        }
        let end = |i: usize, default: f32| match node.inputs.get(i).filter(|n| !n.is_empty()) {
            None => Ok(Some(default)),
            Some(name) => match self.model.weights.get(name) {
                Some(weight) => Ok::<_, LowerError>(to_f32s(&weight.effective()?)?.first().copied()),
                None => Ok(None),
            },
        };
        let (Some(low), Some(high)) = (end(1, f32::NEG_INFINITY)?, end(2, f32::INFINITY)?) else { return Ok(None) };
        let known = [Activation::None, Activation::Relu, Activation::Relu6, Activation::ReluN1To1];
        if let Some(found) = known.into_iter().find(|a| a.range() == (low, high)) {
            return Ok(Some(found));
        }
        // Integers that stop before the ends need no further clipping.
        let Some(Quantization { scales, zero_points, .. }) = self.grid(&node.outputs[0])? else { return Ok(None) };
        let value = |q: i32| (q - zero_points[0]) as f32 * scales[0];
        Ok((value(-128) >= low - scales[0] * 0.5 && value(127) <= high + scales[0] * 0.5).then_some(Activation::None))
    }

    /// A stored tensor of the model as an input of an operator on values.
    fn constant(&mut self, name: &str, want: Want, layout: &Layout) -> Result<usize, LowerError> {
        let Some(weight) = self.model.weights.get(name) else {
            return Err(LowerError::Value { value: name.into(), reason: "is computed by no node".into() });
        };
        let value = float(weight)?;
        let value = match layout {
            Layout::Order(order) if order.len() == value.dim() => {
                value.f_permute(order.iter().map(|&a| a as i64).collect::<Vec<_>>())?.f_contiguous()?
            }
            _ => value,
        };
        self.literal(&value, want)
    }

    /// Adds a constant: float, or in 8 bits over its largest magnitude.
    pub fn literal(&mut self, value: &Tensor, want: Want) -> Result<usize, LowerError> {
        let shape = value.size();
        if want == Want::Float {
            return self.floats(value);
        }
        let most = value.f_abs()?.f_max()?.f_double_value(&[])? as f32;
        // A lone number is hit exactly.
        let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
        let grid = Grid::new(8, Levels::Symmetric, GridShape::Tensor, &[scale], &[0])?;
        let data = int8s(&grid.quantize(value)?)?;
        let quantization = Some(Quantization::tensor(scale, 0));
        Ok(self.tensor(TensorInfo { name: String::new(), shape, element: Element::Int8, quantization, data: Some(data) }))
    }

    fn floats(&mut self, value: &Tensor) -> Result<usize, LowerError> {
        let data = to_f32s(value)?.iter().flat_map(|v| v.to_le_bytes()).collect();
        let info = TensorInfo {
            name: String::new(),
            shape: value.size(),
            element: Element::Float32,
            quantization: None,
            data: Some(data),
        };
        Ok(self.tensor(info))
    }

    /// The grid of a layer's weight, if an integer kernel can multiply with it: zero point 0, one scale for all or for each index of
    /// `out_axis`.
    pub fn kernel_grid(&self, name: &str, out_axis: usize) -> Result<Option<&Grid>, LowerError> {
        let Some(grid) = self.model.weights.get(name).and_then(Weight::grid) else { return Ok(None) };
        let fits = match grid.shape() {
            GridShape::Tensor => true,
            GridShape::Channel(axis) => axis == out_axis,
            GridShape::Group { .. } => false,
        };
        let centred = grid.zero_points()?.iter().all(|&z| z == 0);
        Ok((fits && centred && grid.bits() <= 8).then_some(grid))
    }

    /// A layer's weight as an integer kernel multiplies with it, its axes put in `order`. Also gives its scales.
    pub fn integer_weight(
        &mut self,
        name: &str,
        grid: &Grid,
        order: &[i64],
        reshape: Option<&Tensor>,
    ) -> Result<(usize, Vec<f32>), LowerError> {
        let weight = self.model.weights.get(name).map(Weight::effective).transpose()?;
        let Some(value) = weight else { return Err(LowerError::Value { value: name.into(), reason: "is not stored".into() }) };
        let integers = grid.quantize(&value.f_detach()?)?.f_permute(order)?.f_contiguous()?;
        let integers = pick(&integers, reshape)?;
        let scales = grid.scales()?;
        let axis = match grid.shape() {
            GridShape::Channel(axis) => order.iter().position(|&a| a == axis as i64).unwrap_or(0),
            _ => 0,
        };
        let zero_points = vec![0; scales.len()];
        let info = TensorInfo {
            name: short(name, "weight"),
            shape: integers.size(),
            element: Element::Int8,
            quantization: Some(Quantization { scales: scales.clone(), zero_points, axis }),
            data: Some(int8s(&integers)?),
        };
        Ok((self.tensor(info), scales))
    }

    /// A layer's weight in float, its axes put in `order`; kept short where it is stored in 8 or 16 bits.
    pub fn float_weight(&mut self, name: &str, order: &[i64], columns: Option<&Tensor>) -> Result<usize, LowerError> {
        let Some(weight) = self.model.weights.get(name) else {
            return Err(LowerError::Value { value: name.into(), reason: "is not stored".into() });
        };
        if let Some(grid) = weight.grid().filter(|g| g.bits() <= 8 && !matches!(g.shape(), GridShape::Group { .. }))
            && grid.zero_points()?.iter().all(|&z| z == 0)
        {
            let grid = grid.copy();
            let (integers, _) = self.integer_weight(name, &grid, order, columns)?;
            let info = TensorInfo { element: Element::Float32, quantization: None, ..self.like(integers) };
            return Ok(self.step(Op::Dequantize, vec![integers], info, name));
        }
        let value = pick(&float(weight)?.f_permute(order)?.f_contiguous()?, columns)?;
        if weight.half() == Some(Half::Float16) && weight.grid().is_none() {
            let bytes = sinter_model::to_bytes(&value.f_to_kind(Kind::Half)?)?;
            let info = TensorInfo {
                name: short(name, "weight"),
                shape: value.size(),
                element: Element::Float16,
                quantization: None,
                data: Some(bytes),
            };
            let half = self.tensor(info);
            let info = TensorInfo { element: Element::Float32, ..self.like(half) };
            return Ok(self.step(Op::Dequantize, vec![half], info, name));
        }
        self.floats(&value)
    }

    /// A bias as integer kernels add it: 32 bits at the product of the scales of input and weight, `n` of them; zeros where there is none.
    pub fn integer_bias(&mut self, name: Option<&str>, n: usize, input: f32, scales: &[f32]) -> Result<usize, LowerError> {
        let values = match name.and_then(|n| self.model.weights.get(n)) {
            Some(weight) => to_f32s(&float(weight)?)?,
            None => vec![0.0; n],
        };
        let scale = |i: usize| input as f64 * scales[i % scales.len()] as f64;
        let integers: Vec<i32> = (0..n)
            .map(|i| (values[i % values.len()] as f64 / scale(i)).round().clamp(-2147483647.0, 2147483647.0) as i32)
            .collect();
        let tensor = self.int32s(&integers, &[n as i64]);
        let each: Vec<f32> = scales.iter().map(|s| (input as f64 * *s as f64) as f32).collect();
        let zero_points = vec![0; each.len()];
        self.program.tensors[tensor].quantization = Some(Quantization { scales: each, zero_points, axis: 0 });
        Ok(tensor)
    }

    /// A bias in float; zeros where there is none.
    pub fn float_bias(&mut self, name: Option<&str>, n: usize) -> Result<usize, LowerError> {
        let value = match name.and_then(|n| self.model.weights.get(n)) {
            Some(weight) => float(weight)?.f_reshape([-1])?.f_expand([n as i64], false)?,
            None => Tensor::f_zeros([n as i64], (Kind::Float, tch::Device::Cpu))?,
        };
        self.floats(&value)
    }

    /// The integers of a stored tensor such as a list of axes; `None` for what a node computes.
    pub fn stored_ints(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>, LowerError> {
        match node.inputs.get(input).and_then(|name| self.model.weights.get(name)) {
            Some(weight) => Ok(Some(to_i64s(weight.latent())?)),
            None => Ok(None),
        }
    }
}

/// A weight's effective values in float32.
pub(super) fn float(weight: &Weight) -> Result<Tensor, LowerError> {
    Ok(weight.effective()?.f_detach()?.f_to_kind(Kind::Float)?)
}

/// The columns of a matrix in another order.
fn pick(matrix: &Tensor, columns: Option<&Tensor>) -> Result<Tensor, LowerError> {
    match columns {
        Some(columns) => Ok(matrix.f_index_select(1, columns)?.f_contiguous()?),
        None => Ok(matrix.shallow_clone()),
    }
}

fn int8s(integers: &Tensor) -> Result<Vec<u8>, LowerError> {
    Ok(sinter_model::to_bytes(&integers.f_to_kind(Kind::Int8)?)?)
}

/// A name that costs little flash: long ones, which converters chain from many layers, give way to what the tensor is.
fn short(name: &str, otherwise: &str) -> String {
    if name.len() <= 24 { name.to_string() } else { otherwise.to_string() }
}
