//! What a model says with attributes that ONNX does not have, spelled out in operators that it has.

use sinter_model::{Attribute, Attributes, Node, OpResult};
use tch::Tensor;

/// Nodes, and the tensors that they need.
type Spelled = (Vec<Node>, Vec<(String, Tensor)>);

/// What stands for a node. One that ONNX knows stands for itself.
pub(crate) fn spell(node: &Node) -> OpResult<Spelled> {
    let asks = |name: &str| node.attributes.get_int(name, 0).unwrap_or(0);
    match node.kind() {
        "MatMul" if asks("transB") != 0 => turned(node),
        "LayerNormalization" if asks("removed_features") > 0 => padded(node, asks("removed_features")),
        _ => Ok((vec![node.clone()], vec![])),
    }
}

/// A product with a stored matrix that is read the other way round.
fn turned(node: &Node) -> OpResult<Spelled> {
    let mut inputs = node.inputs.clone();
    let matrix = format!("{}.turned", node.outputs[0]);
    let stored = std::mem::replace(&mut inputs[1], matrix.clone());
    let attributes = Attributes::new().ints("perm", &[1, 0]);
    let turn = Node::new(&matrix, "Transpose", attributes, vec![stored], vec![matrix.clone()])?;
    Ok((vec![turn, Node::new(&node.name, "MatMul", Attributes::new(), inputs, node.outputs.clone())?], vec![]))
}

/// A layer normalisation that counts features which are gone: they are put back as zeros, and cut off behind it.
fn padded(node: &Node, removed: i64) -> OpResult<Spelled> {
    let output = &node.outputs[0];
    let part = |what: &str| format!("{output}.{what}");
    let tensors = vec![
        (part("pads"), Tensor::f_from_slice(&[0i64, removed])?),
        (part("last"), Tensor::f_from_slice(&[-1i64])?),
        (part("from"), Tensor::f_from_slice(&[0i64])?),
        (part("to"), Tensor::f_from_slice(&[-removed])?),
    ];
    let mut nodes = Vec::new();
    let mut inputs = Vec::new();
    for (i, name) in node.inputs.iter().enumerate() {
        if name.is_empty() {
            inputs.push(String::new());
            continue;
        }
        let wide = part(&format!("wide{i}"));
        let reads = vec![name.clone(), part("pads"), String::new(), part("last")];
        nodes.push(Node::new(&wide, "Pad", Attributes::new(), reads, vec![wide.clone()])?);
        inputs.push(wide);
    }
    let mut attributes = node.attributes.clone();
    attributes.0.remove("removed_features");
    attributes.0.insert("axis".into(), Attribute::Int(-1));
    let mut outputs = node.outputs.clone();
    outputs[0] = part("wide");
    nodes.push(Node::new(&node.name, "LayerNormalization", attributes, inputs, outputs)?);
    let reads = ["wide", "from", "to", "last"].map(part).to_vec();
    nodes.push(Node::new(&part("cut"), "Slice", Attributes::new(), reads, vec![output.clone()])?);
    Ok((nodes, tensors))
}
