//! Runs a [`Model`] on libtorch: forward, gradients, and taps on values.
//!
//! One interpreter serves prediction, training, calibration and shape inference. It is differentiable wherever libtorch is.

mod feed;
mod integers;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use sinter_model::{Cost, Graph, Inputs, IoShapes, Layer, Mode, Model, Node, OpError, OpResult, Quantizer, Role, kind_name};
use tch::{Device, Tensor};

pub use feed::{FeedError, Step, feed, first_step, is_bare, one_by_one};
use integers::Requantize;

/// Why a model did not run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// An operator failed.
    #[error("node `{node}` ({kind}): {source}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        kind: String,
        /// What went wrong.
        source: OpError,
    },
    /// A weight has no value.
    #[error("weight `{weight}`: {source}")]
    Weight {
        /// The weight.
        weight: String,
        /// What went wrong.
        source: OpError,
    },
    /// A value could not be quantized.
    #[error("value `{value}`: {source}")]
    Value {
        /// The value.
        value: String,
        /// What went wrong.
        source: OpError,
    },
    /// What was given can't be parted into steps and samples.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The number of inputs is wrong.
    #[error("the model takes {wanted} inputs, {got} were given")]
    InputCount {
        /// What the model takes.
        wanted: usize,
        /// What was given.
        got: usize,
    },
    /// An input has another shape.
    #[error("input `{name}` has shape {wanted}, the data gives {got:?}")]
    InputShape {
        /// Its name.
        name: String,
        /// What the model takes.
        wanted: String,
        /// What was given.
        got: Vec<i64>,
    },
    /// An input has other elements.
    #[error("input `{name}` holds {wanted}, the data gives {got}")]
    InputKind {
        /// Its name.
        name: String,
        /// What the model takes.
        wanted: String,
        /// What was given.
        got: String,
    },
    /// A node reads what nothing gives.
    #[error("node `{node}` ({kind}) reads `{value}`, which nothing produces")]
    NoValue {
        /// The node.
        node: String,
        /// Its operator.
        kind: String,
        /// The value.
        value: String,
    },
    /// An output is given by nothing.
    #[error("output `{0}` is produced by no node")]
    NoOutput(String),
}

/// A model ready to run: its effective weights computed once.
pub struct Runner<'a> {
    model: &'a Model,
    weights: HashMap<&'a str, Tensor>,
    /// The values that nobody reads after each node.
    last_use: Vec<Vec<&'a str>>,
    /// How integer kernels round the result of each node; found at the first prediction.
    integers: OnceCell<Vec<Option<Requantize>>>,
}

impl<'a> Runner<'a> {
    /// Computes the effective weights. While training they change with every step, and so does the runner.
    pub fn new(model: &'a Model) -> Result<Self, ExecError> {
        Self::on(model, Device::Cpu)
    }

    /// The same on another device.
    pub fn on(model: &'a Model, device: Device) -> Result<Self, ExecError> {
        let mut weights = HashMap::new();
        for (name, weight) in &model.weights {
            let value = weight.effective().and_then(|t| if t.device() == device { Ok(t) } else { Ok(t.f_to_device(device)?) });
            let value = value.map_err(|source| ExecError::Weight { weight: name.clone(), source })?;
            weights.insert(name.as_str(), value);
        }
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (i, node) in model.graph.nodes.iter().enumerate() {
            node.present_inputs().chain(&node.outputs).for_each(|name| {
                last.insert(name, i);
            });
        }
        let mut last_use = vec![Vec::new(); model.graph.nodes.len()];
        for (name, i) in last {
            if !model.graph.is_output(name) {
                last_use[i].push(name);
            }
        }
        Ok(Self { model, weights, last_use, integers: OnceCell::new() })
    }

    /// The graph that it runs.
    pub fn graph(&self) -> &'a Graph {
        &self.model.graph
    }

    /// The effective weight under a name.
    pub fn weight(&self, name: &str) -> Option<&Tensor> {
        self.weights.get(name)
    }

    /// Runs the graph on one batch; `inputs` in the order of the graph's inputs.
    pub fn run(&self, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>, ExecError> {
        self.run_tapped(inputs, mode, &mut |_, _| Ok(()))
    }

    /// Runs the graph and shows every value to `tap` as it appears, the inputs first, at every step of a sequence. An error of the tap ends the run and
    /// names the value. See [`feed`] for what `inputs` may be.
    pub fn run_tapped(
        &self,
        inputs: &[Tensor],
        mode: Mode,
        tap: &mut dyn FnMut(&str, &Tensor) -> OpResult<()>,
    ) -> Result<Vec<Tensor>, ExecError> {
        feed(&self.model.graph, inputs, &mut |inputs| self.step(inputs, mode, tap))
    }

    fn step(
        &self,
        inputs: &[Tensor],
        mode: Mode,
        tap: &mut dyn FnMut(&str, &Tensor) -> OpResult<()>,
    ) -> Result<Vec<Tensor>, ExecError> {
        let mut tap =
            |name: &str, value: &Tensor| tap(name, value).map_err(|source| ExecError::Value { value: name.to_string(), source });
        let graph = &self.model.graph;
        let mut values: HashMap<&str, Tensor> = HashMap::new();
        self.check_inputs(inputs)?;
        for (info, tensor) in graph.inputs.iter().zip(inputs) {
            let value = self.quantized(&info.name, tensor.shallow_clone())?;
            tap(&info.name, &value)?;
            values.insert(&info.name, value);
        }
        let integers = if mode == Mode::Predict { self.integers()? } else { &[] };
        for (i, node) in graph.nodes.iter().enumerate() {
            let inputs = self.inputs_of(node, &values)?;
            let mut outputs = self.run_node(node, &inputs, mode)?;
            if let Some(Some(rounding)) = integers.get(i) {
                let fail = |source| ExecError::Node { node: node.name.clone(), kind: node.kind().into(), source };
                outputs[0] = rounding.apply(&outputs[0], &inputs).map_err(fail)?;
            }
            for (name, value) in node.outputs.iter().zip(outputs) {
                if !name.is_empty() {
                    let value = self.quantized(name, value)?;
                    tap(name, &value)?;
                    values.insert(name, value);
                }
            }
            for name in &self.last_use[i] {
                values.remove(name);
            }
        }
        let find = |name: &str| values.get(name).or_else(|| self.weights.get(name)).map(Tensor::shallow_clone);
        graph.outputs.iter().map(|o| find(&o.name).ok_or_else(|| ExecError::NoOutput(o.name.clone()))).collect()
    }

    fn integers(&self) -> Result<&[Option<Requantize>], ExecError> {
        if let Some(found) = self.integers.get() {
            return Ok(found);
        }
        let nodes = if self.model.activations.is_empty() { &[] } else { &self.model.graph.nodes[..] };
        let each = nodes.iter().map(|node| {
            let fail = |source| ExecError::Node { node: node.name.clone(), kind: node.kind().into(), source };
            tch::no_grad(|| Requantize::of(self.model, node)).map_err(fail)
        });
        let found = each.collect::<Result<Vec<_>, _>>()?;
        Ok(self.integers.get_or_init(|| found))
    }

    /// Runs the graph and shows for every layer the rows that its weight multiplies (see [`sinter_model::Operator::columns`]); layers
    /// without any are left out.
    pub fn run_columns(
        &self,
        inputs: &[Tensor],
        visit: &mut dyn FnMut(&Layer, &Tensor) -> OpResult<()>,
    ) -> Result<(), ExecError> {
        let readers = self.column_readers();
        let _ = self.run_tapped(inputs, Mode::Predict, &mut |name, value| {
            readers.get(name).into_iter().flatten().try_for_each(|layer| self.columns(layer, value, visit))
        })?;
        Ok(())
    }

    /// The layers that read each value, of those whose first input is what their weight multiplies.
    pub fn column_readers(&self) -> HashMap<String, Vec<Layer>> {
        let mut readers: HashMap<String, Vec<Layer>> = HashMap::new();
        for layer in self.model.layers().into_iter().filter(|l| l.slot.input == 1) {
            readers.entry(self.model.graph.nodes[layer.node].inputs[0].clone()).or_default().push(layer);
        }
        readers
    }

    /// Shows the rows that a layer's weight multiplies when it reads `value`.
    pub fn columns(&self, layer: &Layer, value: &Tensor, visit: &mut dyn FnMut(&Layer, &Tensor) -> OpResult<()>) -> OpResult<()> {
        let node = &self.model.graph.nodes[layer.node];
        let weight = self.weights.get(layer.weight.as_str()).map(Tensor::shallow_clone);
        let rows = node.op.columns(&Inputs(&[Some(value.shallow_clone()), weight]))?;
        rows.map_or(Ok(()), |rows| visit(layer, &rows))
    }

    fn check_inputs(&self, inputs: &[Tensor]) -> Result<(), ExecError> {
        let wanted = &self.model.graph.inputs;
        if wanted.len() != inputs.len() {
            return Err(ExecError::InputCount { wanted: wanted.len(), got: inputs.len() });
        }
        for (info, tensor) in wanted.iter().zip(inputs) {
            let size = tensor.size();
            let fits = size.len() == info.shape.len()
                && info.shape.iter().zip(&size).all(|(dim, n)| !matches!(dim, sinter_model::Dim::Fixed(m) if m != n));
            if !fits {
                let (name, wanted) = (info.name.clone(), info.shape_text());
                return Err(ExecError::InputShape { name, wanted, got: size });
            }
            if tensor.kind() != info.element.kind() {
                let (wanted, got) = (kind_name(info.element.kind()), kind_name(tensor.kind()));
                return Err(ExecError::InputKind { name: info.name.clone(), wanted, got });
            }
        }
        Ok(())
    }

    /// What a node reads; absent optional inputs are `None`.
    fn inputs_of(&self, node: &Node, values: &HashMap<&str, Tensor>) -> Result<Vec<Option<Tensor>>, ExecError> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            if name.is_empty() {
                inputs.push(None);
                continue;
            }
            match values.get(name.as_str()).or_else(|| self.weights.get(name.as_str())) {
                Some(t) => inputs.push(Some(t.shallow_clone())),
                None => {
                    let (node, kind) = (node.name.clone(), node.kind().to_string());
                    return Err(ExecError::NoValue { node, kind, value: name.clone() });
                }
            }
        }
        Ok(inputs)
    }

    fn run_node(&self, node: &Node, inputs: &[Option<Tensor>], mode: Mode) -> Result<Vec<Tensor>, ExecError> {
        node.compute(&Inputs(inputs), mode).map_err(|source| {
            let shapes: Vec<String> = inputs.iter().flatten().map(|t| format!("{:?}", t.size())).collect();
            let source = match source {
                OpError::Torch(e) => OpError::Invalid(format!("{} (inputs {})", OpError::Torch(e), shapes.join(", "))),
                other => other,
            };
            ExecError::Node { node: node.name.clone(), kind: node.kind().to_string(), source }
        })
    }

    fn quantized(&self, name: &str, value: Tensor) -> Result<Tensor, ExecError> {
        match self.model.activations.get(name) {
            Some(quantizer) => quantizer.apply(&value).map_err(|source| ExecError::Value { value: name.to_string(), source }),
            None => Ok(value),
        }
    }
}

/// Zero inputs of the graph's shapes for a batch size; float inputs are zeros, integers too (a valid index).
pub fn blank_inputs(model: &Model, batch: i64) -> Vec<Tensor> {
    let each = model.graph.inputs.iter();
    each.map(|info| Tensor::zeros(info.concrete(batch), (info.element.kind(), Device::Cpu))).collect()
}

/// The shape of every value and weight for one sample, by running the graph on zeros.
pub fn shapes(model: &Model) -> Result<BTreeMap<String, Vec<i64>>, ExecError> {
    let mut shapes: BTreeMap<String, Vec<i64>> = model.weights.iter().map(|(k, w)| (k.clone(), w.size())).collect();
    tch::no_grad(|| {
        let runner = Runner::new(model)?;
        runner.run_tapped(&blank_inputs(model, 1), Mode::Predict, &mut |name, value| {
            shapes.insert(name.to_string(), value.size());
            Ok(())
        })
    })?;
    Ok(shapes)
}

/// The shapes at each node, in graph order.
pub fn io_shapes(model: &Model) -> Result<Vec<IoShapes>, ExecError> {
    let shapes = shapes(model)?;
    let of = |node: &Node| IoShapes {
        inputs: node.inputs.iter().map(|n| shapes.get(n).cloned()).collect(),
        outputs: node.outputs.iter().map(|n| shapes.get(n).cloned().unwrap_or_default()).collect(),
    };
    Ok(model.graph.nodes.iter().map(of).collect())
}

/// The arithmetic of each node for one sample, in graph order.
pub fn costs(model: &Model) -> Result<Vec<Cost>, ExecError> {
    Ok(model.graph.nodes.iter().zip(io_shapes(model)?).map(|(node, shapes)| node.op.cost(&shapes)).collect())
}

/// Multiply-accumulates of the whole model for one sample.
pub fn macs(model: &Model) -> Result<u64, ExecError> {
    Ok(costs(model)?.iter().map(|c| c.macs).sum())
}

/// What gradients train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// The latent tensor of this weight.
    Latent(String),
    /// The centroids of these weights: one, or all that share the table.
    Centroids(Vec<String>),
    /// The scales of this weight's quantizer.
    WeightScale(String),
    /// The scale of the quantizer on this value.
    ActivationScale(String),
}

/// The tensors that gradients train: each parameter's latent tensor, the centroids of its codebook (a shared table comes once), and the
/// scales of quantizers that are learned.
pub fn leaves(model: &Model) -> Vec<(Leaf, Tensor)> {
    let mut leaves: Vec<(Leaf, Tensor)> = Vec::new();
    let mut tables: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, weight) in &model.weights {
        if weight.role != Role::Parameter || !weight.latent().is_floating_point() {
            continue;
        }
        leaves.push((Leaf::Latent(name.clone()), weight.latent().shallow_clone()));
        let Some(codebook) = weight.codebook() else { continue };
        if let Some(&at) = codebook.shared_name().and_then(|table| tables.get(table)) {
            if let Leaf::Centroids(names) = &mut leaves[at].0 {
                names.push(name.clone());
            }
            continue;
        }
        if let Some(table) = codebook.shared_name() {
            tables.insert(table, leaves.len());
        }
        leaves.push((Leaf::Centroids(vec![name.clone()]), codebook.centroids().shallow_clone()));
    }
    let learned = |quantizer: Option<&Quantizer>| quantizer.and_then(Quantizer::leaf).map(Tensor::shallow_clone);
    let weights = model.weights.iter().filter_map(|(n, w)| Some((Leaf::WeightScale(n.clone()), learned(w.quantizer())?)));
    leaves.extend(weights);
    leaves.extend(model.activations.iter().filter_map(|(n, g)| Some((Leaf::ActivationScale(n.clone()), learned(Some(g))?))));
    leaves
}
