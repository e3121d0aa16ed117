//! What lowering knows while it goes through a model: which values are integers, in which order their axes lie, and what must stand between
//! two operators that disagree. Operators themselves are in `operators/`.

mod constants;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sinter_model::{Clamp, Model, Node, QuantParams, to_f32s};

pub(crate) use constants::float;

use super::activation::Activation;
use super::error::LowerError;
use super::layout::{Layout, reorder};
use super::program::{DeviceOperator, Program, Step};
use super::tensor::{Element, TensorInfo};

/// A value in the program: one tensor for each kind of element that somebody asked for.
pub(crate) struct Stored {
    pub layout: Layout,
    pub tensors: Vec<usize>,
}

/// What a reader wants of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Float,
    Integer,
}

pub(crate) struct Lowering<'a> {
    pub model: &'a Model,
    pub shapes: BTreeMap<String, Vec<i64>>,
    pub program: Program,
    /// The nodes that read each value; a graph output counts as one more that is none of them.
    pub readers: BTreeMap<String, Vec<usize>>,
    pub stored: BTreeMap<String, Stored>,
    /// Nodes that run as one with what is before them.
    pub taken: BTreeSet<usize>,
    pub between: Between,
}

/// The operators that stand between two that disagree.
#[derive(Clone, Copy)]
pub(crate) struct Between {
    /// To a shape.
    pub reshape: fn(Vec<i64>) -> Arc<dyn DeviceOperator>,
    /// By a permutation.
    pub transpose: fn(Vec<usize>) -> Arc<dyn DeviceOperator>,
    /// To integers, or to other ones.
    pub quantize: fn() -> Arc<dyn DeviceOperator>,
    /// To floats.
    pub dequantize: fn() -> Arc<dyn DeviceOperator>,
}

impl Lowering<'_> {
    /// The error of a node.
    pub fn refuse<T>(node: &Node, reason: impl Into<String>) -> Result<T, LowerError> {
        Err(LowerError::Node { node: node.name.clone(), kind: node.kind().to_string(), reason: reason.into() })
    }

    /// The shape of a value for one sample.
    pub fn shape(&self, name: &str) -> Result<Vec<i64>, LowerError> {
        self.shapes.get(name).cloned().ok_or_else(|| LowerError::Value { value: name.into(), reason: "has no shape".into() })
    }

    /// The parameters of a value in eight signed bits; `None` for a float value.
    pub fn quantizer(&self, name: &str) -> Result<Option<QuantParams>, LowerError> {
        let Some(quantizer) = self.model.activations.get(name) else { return Ok(None) };
        if quantizer.bits() != 8 {
            let reason = format!("is quantized to {} bits; kernels for activations have 8", quantizer.bits());
            return Err(LowerError::Value { value: name.into(), reason });
        }
        Ok(Some(quantizer.params()?.signed()))
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
    pub fn integers_of(&self, name: &str) -> Option<QuantParams> {
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
                    Want::Float => ((self.between.dequantize)(), None),
                    Want::Integer => ((self.between.quantize)(), self.quantizer(name)?),
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
        self.step((self.between.reshape)(shape), vec![tensor, target], info, node)
    }

    fn transpose(&mut self, tensor: usize, order: Vec<usize>, node: &str) -> usize {
        let shape = order.iter().map(|&a| self.program.tensors[tensor].shape[a]).collect();
        let wanted: Vec<i32> = order.iter().map(|&a| a as i32).collect();
        let permutation = self.int32s(&wanted, &[wanted.len() as i64]);
        let info = TensorInfo { name: String::new(), shape, ..self.like(tensor) };
        self.step((self.between.transpose)(order), vec![tensor, permutation], info, node)
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
    pub fn step(&mut self, op: Arc<dyn DeviceOperator>, inputs: Vec<usize>, info: TensorInfo, node: &str) -> usize {
        let output = self.tensor(TensorInfo { name: short(node, "value"), ..info });
        self.program.steps.push(Step { op, inputs, output, node: node.to_string() });
        output
    }

    /// Registers the tensor of a value. A value on a quantizer is there in integers of that quantizer and nothing else, so that every reader sees
    /// what it was rounded to.
    pub fn define(&mut self, name: &str, tensor: usize, layout: Layout, node: &str) -> Result<(), LowerError> {
        let wanted = self.quantizer(name)?;
        let have = &self.program.tensors[tensor];
        let tensor = match &wanted {
            Some(_) if have.quantization != wanted || have.element != Element::Int8 => {
                let info = TensorInfo { element: Element::Int8, quantization: wanted, ..self.like(tensor) };
                self.step((self.between.quantize)(), vec![tensor], info, node)
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

    /// The activation that a node is which only clamps; `None` for any other node, and for ends that no kernel has.
    pub fn activation(&self, node: &Node) -> Result<Option<Activation>, LowerError> {
        let (low, high) = match node.op.clamp() {
            None => return Ok(None),
            Some(Clamp::AtZero) => (Some(0.0), Some(f32::INFINITY)),
            Some(Clamp::Between { low, high }) => (self.end(node, low, f32::NEG_INFINITY)?, self.end(node, high, f32::INFINITY)?),
        };
        let (Some(low), Some(high)) = (low, high) else { return Ok(None) };
        if let Some(found) = Activation::ALL.into_iter().find(|a| a.range() == (low, high)) {
            return Ok(Some(found));
        }
        // Integers that stop before the ends need no further clipping.
        let Some(params) = self.quantizer(&node.outputs[0])? else { return Ok(None) };
        let (step, (least, most)) = (params.scale(0), params.range());
        let inside = params.dequantize(least) >= low - step * 0.5 && params.dequantize(most) <= high + step * 0.5;
        Ok(inside.then_some(Activation::None))
    }

    /// A stored end of a range; `None` for one that is computed.
    fn end(&self, node: &Node, input: usize, default: f32) -> Result<Option<f32>, LowerError> {
        match node.inputs.get(input).filter(|n| !n.is_empty()) {
            None => Ok(Some(default)),
            Some(name) => match self.model.weights.get(name) {
                Some(weight) => Ok(to_f32s(&weight.effective()?)?.first().copied()),
                None => Ok(None),
            },
        }
    }
}

/// A name that costs little flash: long ones, which converters chain from many layers, give way to what the tensor is.
pub(crate) fn short(name: &str, otherwise: &str) -> String {
    if name.len() <= 24 { name.to_string() } else { otherwise.to_string() }
}
