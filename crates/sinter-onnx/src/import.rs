//! From ONNX bytes to a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;
use sinter_model::{
    Attribute, Attributes, Bytes, Dim, ElementType, Model, Node, Role, ValueInfo, Weight, elements, guarded, memory_limit,
};
use tch::Tensor;

use crate::batch::free_the_batch;
use crate::early_softmax;
use crate::error::{OnnxError, Unsupported};
use crate::fold;
use crate::proto::{AttributeProto, DOC_STRING, GraphProto, ModelProto, NodeProto, ValueInfoProto, attribute_type};
use crate::reader::Reader;
use crate::tensor::tensor_from_proto;
use crate::widen::widen;

/// What the caller knows about a model that the file leaves open.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lengths of free dimensions by name. The first dimension of an input needs none: it is the batch.
    pub dims: BTreeMap<String, i64>,
    /// Shapes of one sample, as data says them, for free dimensions that `dims` leaves open: by input, without a name for a model of one input.
    pub shapes: BTreeMap<Option<String>, Vec<i64>>,
    /// Leaves a product and the addition of its bias as two nodes where the file has two: for comparing one graph with another.
    pub apart: bool,
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

fn read_file(path: &Path, options: &Options) -> Result<Loaded, OnnxError> {
    let read = |source| OnnxError::Read { path: path.to_path_buf(), source };
    let (len, limit) = (std::fs::metadata(path).map_err(read)?.len(), memory_limit());
    if len > limit.0 {
        return Err(OnnxError::File { bytes: Bytes(len), limit });
    }
    let bytes = std::fs::read(path).map_err(read)?;
    let mut model = import(&bytes, path.parent(), options)?;
    model.name = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let mut notes = Vec::new();
    if widen(&mut model).map_err(|e| OnnxError::Decode(e.to_string()))? {
        notes.push(
            "sixteen-bit numbers of the model became float32: `weights: fp16` of `quantize` writes sixteen bits again".into(),
        );
    }
    check_finite(&model)?;
    // Once as it is: from here on every node has the inputs that it needs.
    let shapes = sinter_exec::shapes(&model)?;
    early_softmax::join(&mut model, &shapes);
    free_the_batch(&mut model);
    fold::fold(&mut model)?;
    if !options.apart {
        fold::join_biases(&mut model)?;
    }
    sinter_exec::shapes(&model)?;
    Ok(Loaded { model, notes })
}

/// Turns bytes into a model as the file states it: nothing is run or folded.
pub fn import(bytes: &[u8], folder: Option<&Path>, options: &Options) -> Result<Model, OnnxError> {
    guarded(|| import_unguarded(bytes, folder, options)).unwrap_or_else(|said| Err(OnnxError::Nonsense(said)))
}

fn import_unguarded(bytes: &[u8], folder: Option<&Path>, options: &Options) -> Result<Model, OnnxError> {
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
    let mut reader = Reader { opset: opset.unwrap_or(0), folder, model: Model::default(), dequantized: BTreeMap::new() };
    reader.initializers(&graph)?;
    reader.inputs_and_outputs(&graph, options)?;
    reader.nodes(&graph)?;
    once(&reader.model)?;
    reader.roles();
    let mut model = reader.model;
    let known: BTreeSet<String> = model.weights.keys().cloned().collect();
    model.graph.sort(&known).map_err(OnnxError::Order)?;
    model.name = graph.name;
    model.graph.metadata = proto.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    if !proto.doc_string.is_empty() {
        model.graph.metadata.insert(DOC_STRING.into(), proto.doc_string);
    }
    Ok(model)
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
            let tensor = tensor_from_proto(proto, self.folder)?;
            let scalar = tensor.dim() == 0 || !tensor.is_floating_point();
            let role = if scalar { Role::Constant } else { Role::Parameter };
            self.model.weights.insert(proto.name.clone(), Weight::new(role, tensor));
        }
        Ok(())
    }

    fn inputs_and_outputs(&mut self, graph: &GraphProto, options: &Options) -> Result<(), OnnxError> {
        let inputs: Vec<_> = graph.input.iter().filter(|i| !self.model.weights.contains_key(&i.name)).collect();
        for input in &inputs {
            let mut info = value_info(input)?;
            let only = options.shapes.get(&None).filter(|_| inputs.len() == 1);
            let sample = options.shapes.get(&Some(input.name.clone())).or(only).filter(|s| s.len() + 1 == info.shape.len());
            for (axis, dim) in info.shape.iter_mut().enumerate() {
                let Dim::Free(name) = dim else { continue };
                let by_place = || options.dims.get(&format!("{}.{axis}", input.name));
                let by_data = || sample?.get(axis.checked_sub(1)?);
                match options.dims.get(name).or_else(by_place).or_else(by_data) {
                    Some(&n) => *dim = Dim::Fixed(n),
                    None if axis == 0 => {}
                    None => return Err(OnnxError::FreeDim { name: info.name, dim: name.clone(), axis }),
                }
            }
            // Three samples are the most that reading it runs with.
            elements(&info.concrete(3), 4).map_err(|e| OnnxError::Tensor { name: info.name.clone(), reason: e.to_string() })?;
            self.model.graph.inputs.push(info);
        }
        self.model.graph.outputs = graph.output.iter().map(value_info).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn nodes(&mut self, graph: &GraphProto) -> Result<(), OnnxError> {
        let mut unsupported = Vec::new();
        for (i, proto) in graph.node.iter().enumerate() {
            let name = match proto.name.as_str() {
                "" => format!("{}_{i}", proto.op_type),
                name => name.to_string(),
            };
            match self.node(&name, proto) {
                Ok(nodes) => self.model.graph.nodes.extend(nodes),
                Err(reason) => unsupported.push(Unsupported { node: name, kind: proto.op_type.clone(), reason }),
            }
        }
        if unsupported.is_empty() { Ok(()) } else { Err(OnnxError::Unsupported(unsupported)) }
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
                return Err(format!("attribute `{}` is a subgraph: control flow is not supported", proto.name));
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

fn value_info(proto: &ValueInfoProto) -> Result<ValueInfo, OnnxError> {
    let fail = |reason: &str| OnnxError::Tensor { name: proto.name.clone(), reason: reason.to_string() };
    let tensor = proto.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).ok_or_else(|| fail("it is not a tensor"))?;
    let element = match (ElementType::from_onnx(tensor.elem_type), tensor.elem_type) {
        (Some(element), _) => element,
        (None, 12 | 13) => ElementType::Int64,
        (None, 4) => ElementType::Int32,
        _ => return Err(fail(&format!("element type {} is not supported", tensor.elem_type))),
    };
    let dims = tensor.shape.iter().flat_map(|s| &s.dim).enumerate();
    if let Some(negative) = tensor.shape.iter().flat_map(|s| &s.dim).filter_map(|d| d.dim_value).find(|n| *n < -1) {
        return Err(fail(&format!("a dimension of {negative} is not possible")));
    }
    let shape = dims.map(|(axis, d)| match (d.dim_value, &d.dim_param) {
        (Some(n), _) if n > 0 || (n == 0 && axis > 0) => Dim::Fixed(n),
        (_, Some(name)) if !name.is_empty() => Dim::Free(name.clone()),
        _ if axis == 0 => Dim::Free("batch".into()),
        _ => Dim::Free(format!("dim{axis}")),
    });
    Ok(ValueInfo { name: proto.name.clone(), element, shape: shape.collect() })
}

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
