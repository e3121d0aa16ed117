//! The graph: nodes in topological order over named values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use tch::Tensor;

use crate::attributes::{Attributes, ElementType};
use crate::error::{OpError, OpResult};
use crate::guard::guarded;
use crate::memory::elements;
use crate::op::{Inputs, Mode, Operator};

/// What an element of most values takes.
const BYTES: u64 = 4;

/// One dimension of an input or output: a fixed length, or a name for a length that the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// A length.
    Fixed(i64),
    /// A name for a length that is free.
    Free(String),
}

/// A graph input or output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueInfo {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub element: ElementType,
    /// Its dimensions.
    pub shape: Vec<Dim>,
}

impl ValueInfo {
    /// The shape for a given batch size, which is what free dimensions of an input stand for: all others are bound when a model is read.
    pub fn concrete(&self, batch: i64) -> Vec<i64> {
        let length = |dim: &Dim| match dim {
            Dim::Fixed(n) => *n,
            Dim::Free(_) => batch,
        };
        self.shape.iter().map(length).collect()
    }

    /// Whether the first dimension is free, so that samples can be batched.
    pub fn is_batched(&self) -> bool {
        matches!(self.shape.first(), Some(Dim::Free(_)))
    }

    /// The shape as text: `[batch, 1, 28, 28]`.
    pub fn shape_text(&self) -> String {
        let dims = self.shape.iter().map(|dim| match dim {
            Dim::Fixed(n) => n.to_string(),
            Dim::Free(name) => name.clone(),
        });
        format!("[{}]", dims.collect::<Vec<_>>().join(", "))
    }
}

/// One application of an operator. An absent optional input is an empty name.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name; layers are named after their node.
    pub name: String,
    /// As in the file.
    pub attributes: Attributes,
    /// Names of values and weights; empty where one is left out.
    pub inputs: Vec<String>,
    /// Names of values.
    pub outputs: Vec<String>,
    /// What it computes.
    pub op: Arc<dyn Operator>,
    /// Whether it computes with real numbers although what it reads is quantized, because integers were found slower.
    pub in_float: bool,
}

impl Node {
    /// A node of the given ONNX operator type. Errors when the type or an attribute is not supported.
    pub fn new(name: &str, kind: &str, attributes: Attributes, inputs: Vec<String>, outputs: Vec<String>) -> OpResult<Self> {
        let op = crate::ops::parse(kind, &attributes)?;
        Ok(Self { name: name.to_string(), attributes, inputs, outputs, op, in_float: false })
    }

    /// Computes the outputs. What the result would take is told before memory is taken, and a panic in an operator is an error of this node: its
    /// attributes and inputs may be anything that a file says.
    pub fn compute(&self, inputs: &Inputs, mode: Mode) -> OpResult<Vec<Tensor>> {
        let work = || {
            if let Some(shape) = self.op.largest(inputs)? {
                elements(&shape, BYTES).map_err(|e| OpError::Invalid(e.to_string()))?;
            }
            self.op.forward(inputs, mode)
        };
        guarded(work).unwrap_or_else(|said| Err(OpError::Invalid(format!("its attributes or inputs lead nowhere ({said})"))))
    }

    /// The ONNX operator type.
    pub fn kind(&self) -> &str {
        self.op.kind()
    }

    /// The names of the inputs that are present.
    pub fn present_inputs(&self) -> impl Iterator<Item = &String> {
        self.inputs.iter().filter(|name| !name.is_empty())
    }
}

#[derive(Serialize, Deserialize)]
struct NodeText {
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "is_empty")]
    attributes: Attributes,
    inputs: Vec<String>,
    outputs: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    in_float: bool,
}

fn is_empty(attributes: &Attributes) -> bool {
    attributes.0.is_empty()
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        NodeText {
            name: self.name.clone(),
            kind: self.kind().to_string(),
            attributes: self.attributes.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            in_float: self.in_float,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = NodeText::deserialize(deserializer)?;
        let node = Node::new(&text.name, &text.kind, text.attributes, text.inputs, text.outputs);
        let node = node.map_err(|e| serde::de::Error::custom(format!("node `{}`: {e}", text.name)))?;
        Ok(Node { in_float: text.in_float, ..node })
    }
}

/// Nodes in an order in which every input exists before it is used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Graph {
    /// What comes in.
    pub inputs: Vec<ValueInfo>,
    /// What goes out.
    pub outputs: Vec<ValueInfo>,
    /// In an order in which each can run.
    pub nodes: Vec<Node>,
    /// Inputs that are the state of a model, each with the output that is its value at the next step; at the first they are zeros, or as data gives them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, String>,
    /// What the file says beside the graph, by key: alphabets, class names, where it came from. Nothing here reads it; every file that is written has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Graph {
    /// The index of the node that produces each value.
    pub fn producers(&self) -> BTreeMap<&str, usize> {
        let each = self.nodes.iter().enumerate();
        each.flat_map(|(i, n)| n.outputs.iter().filter(|o| !o.is_empty()).map(move |o| (o.as_str(), i))).collect()
    }

    /// The indices of the nodes that read each value, in order.
    pub fn consumers(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut map: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for name in node.present_inputs() {
                let readers = map.entry(name).or_default();
                if readers.last() != Some(&i) {
                    readers.push(i);
                }
            }
        }
        map
    }

    /// The inputs that data gives: those that are no state.
    pub fn data_inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        self.inputs.iter().filter(|info| !self.is_state(&info.name))
    }

    /// Whether an input is a state.
    pub fn is_state(&self, input: &str) -> bool {
        self.state.contains_key(input)
    }

    /// Whether samples are sequences of steps: there is a state that goes through them.
    pub fn takes_sequences(&self) -> bool {
        !self.state.is_empty()
    }

    /// Whether a value leaves the graph.
    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.iter().any(|o| o.name == name)
    }

    /// Puts the nodes in topological order. Returns the names of nodes that can never run (a cycle or a missing input).
    pub fn sort(&mut self, known: &BTreeSet<String>) -> Result<(), Vec<String>> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut missing: Vec<usize> = vec![0; nodes.len()];
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let there: BTreeSet<&str> = known.iter().chain(self.inputs.iter().map(|i| &i.name)).map(String::as_str).collect();
        for (i, node) in nodes.iter().enumerate() {
            for input in node.present_inputs().filter(|n| !there.contains(n.as_str())) {
                missing[i] += 1;
                readers.entry(input).or_default().push(i);
            }
        }
        // Of those that can run, the one that stood first: a graph in order keeps it (Kahn, 1962).
        let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&i| missing[i] == 0).collect();
        let mut order = Vec::with_capacity(nodes.len());
        while let Some(i) = ready.pop_first() {
            order.push(i);
            for reader in nodes[i].outputs.iter().filter_map(|o| readers.remove(o.as_str())).flatten() {
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if order.len() < nodes.len() {
            return Err(nodes.iter().zip(missing).filter(|(_, m)| *m > 0).map(|(n, _)| n.name.clone()).collect());
        }
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }
}
