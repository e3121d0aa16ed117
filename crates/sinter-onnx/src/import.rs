//! From ONNX bytes to a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use sinter_model::{Attribute, Attributes, Bytes, Model, Node, Role, Weight, guarded, memory_limit};
use tch::Tensor;

use crate::batch::free_the_batch;
use crate::early_softmax;
use crate::error::{OnnxError, Unsupported};
use crate::fold;
use crate::inline::{all_defined, all_in_function, defined};
use crate::proto::{AttributeProto, DOC_STRING, GraphProto, ModelProto, NodeProto, TensorProto, attribute_type};
use crate::reader::Reader;
use crate::taken::Taken;
use crate::tensor::tensor_from_proto;
use crate::widen::widen;

/// What the caller knows about a model that the file leaves open.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lengths of free dimensions by name. The first dimension of an input needs none: it is the batch.
    pub dims: BTreeMap<String, i64>,
    /// Shapes of one sample, as data says them, for free dimensions that `dims` leaves open: by input, without a name for a model of one input.
    pub shapes: BTreeMap<Option<String>, Vec<i64>>,
    /// Inputs that always have these numbers: they are stored in the model, and are no inputs of it any more.
    pub constants: BTreeMap<String, Vec<f64>>,
    /// Inputs that are states, each with the output that is its next value.
    pub state: BTreeMap<String, String>,
    /// Leaves a product and the addition of its bias as two nodes where the file has two: for comparing one graph with another.
    pub apart: bool,
}

impl Options {
    /// The length of a free dimension of an input, by its name or its place.
    pub(crate) fn dim(&self, name: &str, input: &str, axis: usize) -> Option<i64> {
        self.dims.get(name).or_else(|| self.dims.get(&format!("{input}.{axis}"))).copied()
    }
}

/// A model as it was read, and what of it is not as the file has it.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// What was changed on reading, in words.
    pub notes: Vec<String>,
}

/// Reads a model from a file, ready to run: shapes inferred, constants folded, weights checked.
pub fn load(path: &Path, options: &Options) -> Result<Model, OnnxError> {
    read(path, options).map(|loaded| loaded.model)
}

/// The same, with what was changed on the way.
pub fn read(path: &Path, options: &Options) -> Result<Loaded, OnnxError> {
    guarded(|| read_file(path, options)).unwrap_or_else(|said| Err(OnnxError::Nonsense(said)))
}

/// The bytes of a file, where the limit of memory lets it be read.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, OnnxError> {
    let read = |source| OnnxError::Read { path: path.to_path_buf(), source };
    let (len, limit) = (std::fs::metadata(path).map_err(read)?.len(), memory_limit());
    if len > limit.0 {
        return Err(OnnxError::File { bytes: Bytes(len), limit });
    }
    std::fs::read(path).map_err(read)
}

fn read_file(path: &Path, options: &Options) -> Result<Loaded, OnnxError> {
    let bytes = bytes_of(path)?;
    let (Loaded { mut model, mut notes }, chooses) = import_unguarded(&bytes, path.parent(), options)?;
    model.name = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    if widen(&mut model).map_err(|e| OnnxError::Decode(e.to_string()))? {
        notes.push(
            "sixteen-bit numbers of the model became float32: `weights: fp16` of `quantize` writes sixteen bits again".into(),
        );
    }
    check_finite(&model)?;
    // Once as it is: from here on every node has the inputs that it needs.
    let shapes = sinter_exec::shapes(&model)?;
    early_softmax::join(&mut model, &shapes);
    // One choice for a whole batch is none for each sample.
    if !chooses {
        free_the_batch(&mut model);
    }
    fold::fold(&mut model)?;
    if !options.apart {
        fold::join_biases(&mut model)?;
    }
    let shapes = sinter_exec::shapes(&model)?;
    for (input, output) in &model.graph.state {
        let (from, to) = (shapes.get(output), shapes.get(input));
        if from != to {
            let reason = format!("output `{output}` is {from:?}, which can't be the next value of a state that is {to:?}")
                .replace("Some(", "")
                .replace(')', "");
            return Err(OnnxError::Tensor { name: input.clone(), reason });
        }
    }
    Ok(Loaded { model, notes })
}

/// Turns bytes into a model as the file states it: nothing is run or folded.
pub fn import(bytes: &[u8], folder: Option<&Path>, options: &Options) -> Result<Model, OnnxError> {
    let imported = guarded(|| import_unguarded(bytes, folder, options)).unwrap_or_else(|said| Err(OnnxError::Nonsense(said)));
    imported.map(|(loaded, _)| loaded.model)
}

fn import_unguarded(bytes: &[u8], folder: Option<&Path>, options: &Options) -> Result<(Loaded, bool), OnnxError> {
    let proto = ModelProto::decode(bytes).map_err(|e| OnnxError::Decode(e.to_string()))?;
    let default_domain = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = proto.opset_import.iter().find(|o| default_domain(&o.domain)).map(|o| o.version);
    let graph = proto.graph.ok_or(OnnxError::NoGraph)?;
    if graph.node.is_empty() && graph.output.is_empty() {
        return Err(OnnxError::NoGraph);
    }
    match opset {
        Some(1..=23) => {}
        Some(other) => return Err(OnnxError::Opset(other)),
        None => return Err(OnnxError::Decode("it names no opset".into())),
    }
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or_else(String::new, |v| v.name.clone());
        return Err(OnnxError::Tensor { name, reason: "sparse initializers are not supported".into() });
    }
    let mut reader = Reader { opset: opset.unwrap_or(0), folder, functions: proto.functions, ..Reader::default() };
    reader.initializers(&graph)?;
    reader.inputs_and_outputs(&graph, options)?;
    reader.nodes(&graph)?;
    once(&reader.model)?;
    reader.roles();
    let Reader { mut model, notes, chooses, .. } = reader;
    let known: BTreeSet<String> = model.weights.keys().cloned().collect();
    model.graph.sort(&known).map_err(OnnxError::Order)?;
    model.name = graph.name;
    model.graph.metadata = proto.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    if !proto.doc_string.is_empty() {
        model.graph.metadata.insert(DOC_STRING.into(), proto.doc_string);
    }
    Ok((Loaded { model, notes }, chooses))
}

/// Every value comes from one place: an input, a stored tensor or a node.
fn once(model: &Model) -> Result<(), OnnxError> {
    let inputs = model.graph.inputs.iter().map(|i| &i.name);
    let outputs = model.graph.nodes.iter().flat_map(|n| &n.outputs).filter(|o| !o.is_empty());
    let mut seen: BTreeSet<&String> = model.weights.keys().collect();
    for name in inputs.chain(outputs) {
        if !seen.insert(name) {
            return Err(OnnxError::Twice(name.clone()));
        }
    }
    Ok(())
}

impl Reader<'_> {
    fn initializers(&mut self, graph: &GraphProto) -> Result<(), OnnxError> {
        for proto in &graph.initializer {
            if self.model.weights.contains_key(&proto.name) {
                return Err(OnnxError::Twice(proto.name.clone()));
            }
            self.store(&proto.name, proto)?;
        }
        Ok(())
    }

    /// Stores a tensor under a name.
    pub(crate) fn store(&mut self, name: &str, proto: &TensorProto) -> Result<(), OnnxError> {
        let tensor = tensor_from_proto(proto, self.folder)?;
        let scalar = tensor.dim() == 0 || !tensor.is_floating_point();
        let role = if scalar { Role::Constant } else { Role::Parameter };
        self.model.weights.insert(name.to_string(), Weight::new(role, tensor));
        Ok(())
    }

    fn nodes(&mut self, graph: &GraphProto) -> Result<(), OnnxError> {
        self.values = Taken::of(defined(graph));
        let mut nested = Vec::new();
        all_defined(graph, &mut nested);
        self.functions.iter().for_each(|function| all_in_function(function, &mut nested));
        self.nested = nested.into_iter().map(String::from).collect();
        // Reasons of the nodes are told one by one; this says no more.
        let _ = self.add_all(&graph.node);
        let unsupported = std::mem::take(&mut self.unsupported);
        if unsupported.is_empty() { Ok(()) } else { Err(OnnxError::Unsupported(unsupported)) }
    }

    /// Adds nodes in their order, and what those of control flow and calls of functions mean. Those that can't run are noted; errors where there are any.
    pub(crate) fn add_all(&mut self, protos: &[NodeProto]) -> Result<(), String> {
        let before = self.unsupported.len();
        for (i, proto) in protos.iter().enumerate() {
            let name = match proto.name.as_str() {
                "" => format!("{}_{i}", proto.op_type),
                name => name.to_string(),
            };
            let known = self.unsupported.len();
            if let Err(reason) = self.add(&name, proto)
                // What lies within it was named already.
                && self.unsupported.len() == known
            {
                self.unsupported.push(Unsupported { node: name, kind: proto.op_type.clone(), reason });
            }
        }
        match self.unsupported.len() - before {
            0 => Ok(()),
            n => Err(format!("{n} of its nodes can't run")),
        }
    }

    fn add(&mut self, name: &str, proto: &NodeProto) -> Result<(), String> {
        // What is read of it would be missing.
        if self.call(proto)? {
            return Ok(());
        }
        if matches!(proto.op_type.as_str(), "If" | "Loop" | "Scan") && !self.unsupported.is_empty() {
            return Err("it was not looked at, since nodes before it can't run".into());
        }
        if self.control(name, proto)? {
            return Ok(());
        }
        let mut nodes = self.node(name, proto)?;
        for node in &mut nodes {
            node.name = self.named.free(&node.name, |_| false);
            self.compute_fixed(node);
        }
        self.model.graph.nodes.extend(nodes);
        Ok(())
    }

    /// The node, or those that an operator of integers means.
    fn node(&mut self, name: &str, proto: &NodeProto) -> Result<Vec<Node>, String> {
        if proto.output.iter().all(String::is_empty) {
            return Err("none of its results has a name".into());
        }
        self.check_age(proto)?;
        let mut attributes = Attributes::new();
        for attribute in &proto.attribute {
            attributes.0.insert(attribute.name.clone(), self.attribute(attribute)?);
        }
        if let Some(nodes) = self.restate_integers(name, proto, &attributes)? {
            return Ok(nodes);
        }
        if !proto.domain.is_empty() && proto.domain != "ai.onnx" {
            return Err(format!("operator domain `{}` is not supported", proto.domain));
        }
        let mut inputs = proto.input.clone();
        self.upgrade(name, proto, &mut attributes, &mut inputs)?;
        if self.opset < 13 && early_softmax::is(&proto.op_type) {
            let (x, y) = (inputs.first(), proto.output.first());
            let (x, y) = x.zip(y).ok_or("it has no input")?;
            return early_softmax::restated(name, &proto.op_type, &attributes, x, y).map_err(|e| e.to_string());
        }
        let node = Node::new(name, &proto.op_type, attributes, inputs, proto.output.clone()).map_err(|e| e.to_string())?;
        Ok(vec![node])
    }

    fn attribute(&self, proto: &AttributeProto) -> Result<Attribute, String> {
        let text =
            |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).map_err(|_| format!("attribute `{}` is not text", proto.name));
        Ok(match proto.r#type {
            attribute_type::FLOAT => Attribute::Float(proto.f),
            attribute_type::INT => Attribute::Int(proto.i),
            attribute_type::STRING => Attribute::String(text(&proto.s)?),
            attribute_type::FLOATS => Attribute::Floats(proto.floats.clone()),
            attribute_type::INTS => Attribute::Ints(proto.ints.clone()),
            attribute_type::STRINGS => Attribute::Strings(proto.strings.iter().map(text).collect::<Result<_, _>>()?),
            attribute_type::TENSOR => {
                let tensor = proto.t.as_ref().ok_or_else(|| format!("attribute `{}` is empty", proto.name))?;
                let tensor = tensor_from_proto(tensor, self.folder).map_err(|e| e.to_string())?;
                let (element, data) = crate::tensor::raw_bytes(&tensor)?;
                Attribute::Tensor { element, shape: tensor.size(), data }
            }
            attribute_type::GRAPH => {
                return Err(format!("attribute `{}` is a graph: of control flow If, Loop and Scan are supported", proto.name));
            }
            other => return Err(format!("attribute `{}` of type {other} is not supported", proto.name)),
        })
    }

    /// Which stored tensors are trained, which are statistics, which belong to the computation.
    fn roles(&mut self) {
        for node in &self.model.graph.nodes {
            let constants: &[usize] = match node.kind() {
                "Resize" | "Upsample" => &[1, 2, 3],
                "QuantizeLinear" | "DequantizeLinear" => &[0, 1, 2],
                "Clip" | "Pad" | "Dropout" => &[1, 2],
                _ => &[],
            };
            let masks: Vec<usize> = match node.kind() {
                "Add" | "Sub" | "Mul" | "Max" | "Min" | "Where" => (0..node.inputs.len()).collect(),
                _ => vec![],
            };
            for name in masks.iter().map(|&i| &node.inputs[i]) {
                if let Some(weight) = self.model.weights.get_mut(name)
                    && never_trained(weight.latent())
                {
                    weight.role = Role::Constant;
                }
            }
            let statistics: &[usize] = if node.kind() == "BatchNormalization" { &[3, 4] } else { &[] };
            for (slots, role) in [(constants, Role::Constant), (statistics, Role::Statistic)] {
                for name in slots.iter().filter_map(|&i| node.inputs.get(i)) {
                    if let Some(weight) = self.model.weights.get_mut(name) {
                        weight.role = role;
                    }
                }
            }
        }
    }
}

/// Whether a tensor holds what no training leaves: infinities, or in more than a vector numbers that stand for them, as masks of attention
/// have.
fn never_trained(tensor: &Tensor) -> bool {
    let most = tensor.f_abs().and_then(|t| t.f_max()).and_then(|t| t.f_double_value(&[])).unwrap_or(0.0);
    most.is_infinite() || (tensor.dim() > 1 && most >= LIKE_INFINITY)
}

/// From here on a number stands for infinity: masks are written as -1e4 where they shall fit sixteen bits.
const LIKE_INFINITY: f64 = 1e4;

/// Errors on NaN anywhere, and on infinity in what is trained.
fn check_finite(model: &Model) -> Result<(), OnnxError> {
    for (name, weight) in model.weights.iter().filter(|(_, w)| w.latent().is_floating_point()) {
        let holds = |found: Result<Tensor, tch::TchError>| {
            found
                .and_then(|t| t.f_any()?.f_int64_value(&[]))
                .map(|v| v != 0)
                .map_err(|e| OnnxError::Weight { weight: name.clone(), source: e.into() })
        };
        if holds(weight.latent().f_isnan())? {
            return Err(OnnxError::NotFinite { name: name.clone(), what: "NaN" });
        }
        if weight.role == Role::Parameter && holds(weight.latent().f_isinf())? {
            return Err(OnnxError::NotFinite { name: name.clone(), what: "infinity" });
        }
    }
    Ok(())
}
