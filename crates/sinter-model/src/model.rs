//! The model: a graph, its weights, and the quantizers on its values.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Kind, Tensor};

use crate::axes::IoShapes;
use crate::encoding::Quantizer;
use crate::error::OpError;
use crate::graph::{Graph, Node};
use crate::op::WeightSlot;
use crate::weight::{BrokenLink, Role, Weight};

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A weight has no value.
    #[error("weight `{weight}`: {source}")]
    Weight {
        /// The weight.
        weight: String,
        /// What went wrong.
        source: OpError,
    },
    /// A weight broke what a stage had set.
    #[error("weight `{weight}` breaks its {link}: {what}")]
    Broken {
        /// The weight.
        weight: String,
        /// The link of its chain.
        link: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such weight.
    #[error("the graph has no weight `{0}`")]
    NoWeight(String),
}

/// A trained network in flight.
#[derive(Debug, Default)]
pub struct Model {
    /// Its name in reports.
    pub name: String,
    /// What is computed.
    pub graph: Graph,
    /// Stored tensors by the name under which nodes read them.
    pub weights: BTreeMap<String, Weight>,
    /// Activation quantization: the quantizer that a named value is rounded to.
    pub activations: BTreeMap<String, Quantizer>,
}

/// A layer: a node that owns a weight.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The index of the node.
    pub node: usize,
    /// The node's name.
    pub name: String,
    /// The name of the weight.
    pub weight: String,
    /// The name of the bias, when there is one.
    pub bias: Option<String>,
    /// Where the weight stands among the node's inputs.
    pub slot: WeightSlot,
}

impl Model {
    /// A deep copy: nothing is shared with the original.
    pub fn copy(&self) -> Model {
        Model {
            name: self.name.clone(),
            graph: self.graph.clone(),
            weights: self.weights.iter().map(|(k, w)| (k.clone(), w.copy())).collect(),
            activations: self.activations.iter().map(|(k, g)| (k.clone(), g.copy())).collect(),
        }
    }

    /// A weight by name.
    pub fn weight(&self, name: &str) -> Result<&Weight, ModelError> {
        self.weights.get(name).ok_or_else(|| ModelError::NoWeight(name.to_string()))
    }

    /// A weight by name, to change it.
    pub fn weight_mut(&mut self, name: &str) -> Result<&mut Weight, ModelError> {
        self.weights.get_mut(name).ok_or_else(|| ModelError::NoWeight(name.to_string()))
    }

    /// The layers that prune, cluster and quantize act on, in graph order: nodes with a weight that is a stored parameter (a recurrent
    /// layer has two, and is listed with each). A weight
    /// that several nodes share is listed once, under its first node.
    pub fn layers(&self) -> Vec<Layer> {
        let mut seen = BTreeSet::new();
        let mut layers = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let stored = |name: &String| self.weights.get(name).filter(|w| w.role == Role::Parameter);
            let shapes = IoShapes { inputs: node.inputs.iter().map(|n| stored(n).map(Weight::size)).collect(), outputs: vec![] };
            for slot in node.op.weights(&shapes) {
                let Some(weight) = node.inputs.get(slot.input).filter(|n| stored(n).is_some()) else { continue };
                if seen.insert(weight.clone()) {
                    let bias = slot.bias.and_then(|b| node.inputs.get(b)).filter(|n| stored(n).is_some()).cloned();
                    layers.push(Layer { node: index, name: node.name.clone(), weight: weight.clone(), bias, slot });
                }
            }
        }
        layers
    }

    /// The look-up tables, as embeddings have them, in graph order: stored matrices that nodes pick rows of and that are the weight of no layer.
    /// Rows stand for output channels. They hold numbers and take part in no product, so quantization alone asks for them.
    pub fn tables(&self) -> Vec<Layer> {
        let mut seen: BTreeSet<String> = self.layers().into_iter().map(|l| l.weight).collect();
        let mut tables = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let Some((input, weight)) = node.op.table().and_then(|i| Some((i, node.inputs.get(i)?))) else { continue };
            let matrix = |w: &&Weight| w.role == Role::Parameter && w.size().len() == 2 && w.latent().is_floating_point();
            if self.weights.get(weight).filter(matrix).is_some() && seen.insert(weight.clone()) {
                let slot = WeightSlot { input, bias: None, out_axis: 0, in_axis: 1 };
                tables.push(Layer { node: index, name: node.name.clone(), weight: weight.clone(), bias: None, slot });
            }
        }
        tables
    }

    /// Everything that stores weights and has a name in tables: layers and look-up tables, in graph order.
    pub fn layers_and_tables(&self) -> Vec<Layer> {
        let mut all = self.layers();
        all.extend(self.tables());
        all.sort_by_key(|l| l.node);
        all
    }

    /// The nodes that a weight is the weight of, and where it stands there; more than one where layers share it.
    pub fn uses(&self, weight: &str) -> Vec<(usize, WeightSlot)> {
        let mut uses = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.iter().any(|i| i == weight)) {
            let inputs = node.inputs.iter().map(|n| self.weights.get(n).map(Weight::size)).collect();
            let slots = node.op.weights(&IoShapes { inputs, outputs: vec![] });
            uses.extend(slots.into_iter().filter(|s| node.inputs.get(s.input).is_some_and(|n| n == weight)).map(|s| (index, s)));
        }
        uses
    }

    /// The quantizer of a node's first input, where the node computes with its integers.
    pub fn integers_read(&self, node: &Node) -> Option<&Quantizer> {
        node.inputs.first().filter(|_| !node.in_float).and_then(|input| self.activations.get(input))
    }

    /// The number of trained elements.
    pub fn parameters(&self) -> usize {
        self.weights.values().filter(|w| w.role == Role::Parameter).map(Weight::numel).sum()
    }

    /// Checks every link of every weight; the first broken one is the error.
    pub fn check(&self) -> Result<(), ModelError> {
        for (name, weight) in &self.weights {
            match weight.check() {
                Ok(None) => {}
                Ok(Some(BrokenLink { link, what })) => {
                    return Err(ModelError::Broken { weight: name.clone(), link, what });
                }
                Err(source) => return Err(ModelError::Weight { weight: name.clone(), source }),
            }
        }
        Ok(())
    }

    /// A name that no stored tensor, input or result of a node has: `hint`, or that and a number.
    pub fn free_name(&self, hint: &str) -> String {
        let taken = |name: &str| {
            self.weights.contains_key(name)
                || self.graph.inputs.iter().any(|i| i.name == name)
                || self.graph.nodes.iter().any(|n| n.outputs.iter().any(|o| o == name))
        };
        let mut name = hint.to_string();
        let mut count = 1;
        while taken(&name) {
            count += 1;
            name = format!("{hint}_{count}");
        }
        name
    }

    /// Sets an integer constant under a name that is free, derived from `hint`; returns the name.
    pub fn add_constant(&mut self, hint: &str, value: Tensor) -> String {
        let name = self.free_name(hint);
        self.weights.insert(name.clone(), Weight::new(Role::Constant, value));
        name
    }

    /// Removes stored tensors that no node reads and that are no output.
    pub fn drop_unused(&mut self) {
        let mut used: std::collections::BTreeSet<String> =
            self.graph.nodes.iter().flat_map(|n| n.present_inputs().cloned()).collect();
        used.extend(self.graph.outputs.iter().map(|o| o.name.clone()));
        self.weights.retain(|name, _| used.contains(name));
    }

    /// Whether every parameter is a float tensor that libtorch can train.
    pub fn is_trainable(&self) -> bool {
        self.weights.values().any(|w| w.role == Role::Parameter && w.latent().kind() == Kind::Float)
    }
}
