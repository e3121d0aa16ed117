//! From a model to ONNX bytes.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;
use sinter_model::{Attribute, Dim, Model, OPSET, ValueInfo, tensor_of, write_whole};

use crate::error::OnnxError;
use crate::proto::{
    AttributeProto, DOC_STRING, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetId, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorType, TypeProto, ValueInfoProto, attribute_type,
};
use crate::spell::spell;
use crate::taken::Taken;
use crate::tensor::{make_external, nibbles_to_proto, tensor_to_proto};

/// Where tensors are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Inside the file; protobuf allows 2 GiB.
    Inside,
    /// Tensors of at least 1 KiB in a second file `NAME.data` beside it.
    Beside,
}

/// Writes a model as a file of opset 21. A model of over 1.9 GB is stored beside whatever is asked.
pub fn save(model: &Model, path: &Path, storage: Storage) -> Result<(), OnnxError> {
    save_narrow(model, &BTreeSet::new(), path, storage)
}

/// [`save`], with the named tensors of int8 or uint8 stored in four bits an element.
pub fn save_narrow(model: &Model, four_bits: &BTreeSet<String>, path: &Path, storage: Storage) -> Result<(), OnnxError> {
    let total: usize = model.weights.values().map(|w| w.numel() * 4).sum();
    let mut proto = to_proto(model, four_bits)?;
    if storage == Storage::Beside || total > 1_900_000_000 {
        let location = format!("{}.data", path.file_name().unwrap_or_default().to_string_lossy());
        let mut data = Vec::new();
        for tensor in proto.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            if tensor.raw_data.as_ref().is_some_and(|raw| raw.len() >= 1024) {
                make_external(tensor, &location, &mut data);
            }
        }
        write_whole(&path.with_file_name(&location), &data)?;
    }
    write_whole(path, &proto.encode_to_vec())?;
    Ok(())
}

/// The bytes of a model with every tensor inside: its effective weights, dense, and no activation quantizers.
pub fn export(model: &Model) -> Result<Vec<u8>, OnnxError> {
    Ok(to_proto(model, &BTreeSet::new())?.encode_to_vec())
}

fn to_proto(model: &Model, four_bits: &BTreeSet<String>) -> Result<ModelProto, OnnxError> {
    let mut initializer = Vec::new();
    for (name, weight) in &model.weights {
        let value = weight.effective().map_err(|source| OnnxError::Weight { weight: name.clone(), source })?;
        initializer.push(if four_bits.contains(name) { nibbles_to_proto(name, &value)? } else { tensor_to_proto(name, &value)? });
    }
    let mut node = Vec::new();
    for said in &model.graph.nodes {
        let (nodes, tensors) = spell(said).map_err(|source| OnnxError::Weight { weight: said.name.clone(), source })?;
        node.extend(nodes.iter().map(node_to_proto).collect::<Result<Vec<_>, _>>()?);
        initializer.extend(tensors.iter().map(|(name, value)| tensor_to_proto(name, value)).collect::<Result<Vec<_>, _>>()?);
    }
    name_apart(&mut node);
    let graph = GraphProto {
        node,
        name: model.name.clone(),
        initializer,
        input: model.graph.inputs.iter().map(value_to_proto).collect(),
        output: model.graph.outputs.iter().map(value_to_proto).collect(),
        ..GraphProto::default()
    };
    let mut metadata = model.graph.metadata.clone();
    let doc_string = metadata.remove(DOC_STRING).unwrap_or_default();
    Ok(ModelProto {
        ir_version: Some(10),
        doc_string,
        metadata_props: metadata.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect(),
        producer_name: "sinter".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetId { domain: String::new(), version: OPSET }],
        functions: vec![],
    })
}

/// Gives nodes of one name a number each: ONNX wants names of their own, and a node may be called like a value that another makes.
fn name_apart(nodes: &mut [NodeProto]) {
    let mut taken = Taken::default();
    for node in nodes.iter_mut().filter(|n| !n.name.is_empty()) {
        node.name = taken.free(&node.name, |_| false);
    }
}

fn node_to_proto(node: &sinter_model::Node) -> Result<NodeProto, OnnxError> {
    let attribute = node.attributes.0.iter().map(|(name, value)| attribute_to_proto(name, value));
    Ok(NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: node.name.clone(),
        op_type: node.kind().to_string(),
        attribute: attribute.collect::<Result<_, _>>()?,
        domain: String::new(),
        overload: String::new(),
    })
}

fn attribute_to_proto(name: &str, value: &Attribute) -> Result<AttributeProto, OnnxError> {
    let mut proto = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
    proto.r#type = match value {
        Attribute::Int(v) => {
            proto.i = *v;
            attribute_type::INT
        }
        Attribute::Float(v) => {
            proto.f = *v;
            attribute_type::FLOAT
        }
        Attribute::String(v) => {
            proto.s = v.clone().into_bytes();
            attribute_type::STRING
        }
        Attribute::Ints(v) => {
            proto.ints = v.clone();
            attribute_type::INTS
        }
        Attribute::Floats(v) => {
            proto.floats = v.clone();
            attribute_type::FLOATS
        }
        Attribute::Strings(v) => {
            proto.strings = v.iter().map(|s| s.clone().into_bytes()).collect();
            attribute_type::STRINGS
        }
        Attribute::Tensor { element, shape, data } => {
            let tensor = tensor_of(name, *element, shape, data)
                .map_err(|e| OnnxError::Tensor { name: name.to_string(), reason: e.to_string() })?;
            proto.t = Some(TensorProto { name: String::new(), ..tensor_to_proto(name, &tensor)? });
            attribute_type::TENSOR
        }
    };
    Ok(proto)
}

fn value_to_proto(info: &ValueInfo) -> ValueInfoProto {
    let dim = |d: &Dim| match d {
        Dim::Fixed(n) => Dimension { dim_value: Some(*n), dim_param: None },
        Dim::Free(name) => Dimension { dim_value: None, dim_param: Some(name.clone()) },
    };
    let shape = Some(TensorShapeProto { dim: info.shape.iter().map(dim).collect() });
    let tensor_type = Some(TensorType { elem_type: info.element.to_onnx(), shape });
    ValueInfoProto { name: info.name.clone(), r#type: Some(TypeProto { tensor_type }) }
}
