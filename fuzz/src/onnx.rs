//! Mutations of ONNX models as messages: what is encoded again is always a message, and seldom a model.

use arbitrary::{Result, Unstructured};
use prost::Message;
use sinter_onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Lengths that shapes and attributes should not have.
const LENGTHS: [i64; 14] =
    [0, 1, -1, 2, 3, -7, 1 << 20, 1 << 31, -(1 << 31), 1 << 40, i64::MAX, i64::MIN, i64::MAX / 2, 4_611_686_018_427_387_904];
const FLOATS: [f32; 8] = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38, 1e-45];

pub(crate) fn mutate(bytes: &[u8], u: &mut Unstructured) -> Result<Vec<u8>> {
    let Ok(mut model) = ModelProto::decode(bytes) else { return crate::bytes::mutate(bytes.to_vec(), u) };
    for _ in 0..u.int_in_range(1..=3)? {
        change(&mut model, u)?;
    }
    let bytes = model.encode_to_vec();
    if u.ratio(1, 5)? { crate::bytes::mutate(bytes, u) } else { Ok(bytes) }
}

fn change(model: &mut ModelProto, u: &mut Unstructured) -> Result<()> {
    let kinds = [&sinter_model::supported_operators()[..], &["If", "Loop", "Scan"]].concat();
    if !model.functions.is_empty() && u.ratio(1, 3)? {
        let i = u.choose_index(model.functions.len())?;
        let function = &mut model.functions[i];
        let names: Vec<String> = function.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
        if !function.node.is_empty() {
            let at = u.choose_index(function.node.len())?;
            node(&mut function.node[at], &names, &kinds, u)?;
        }
        return Ok(());
    }
    if u.ratio(1, 20)? {
        if let Some(opset) = model.opset_import.first_mut() {
            opset.version = *u.choose(&[0, 1, 6, 7, 9, 11, 13, 18, 21, 22, -1, i64::MAX])?;
        }
        return Ok(());
    }
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let graph = within(graph, u)?;
    let names: Vec<String> = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output)).cloned().collect();
    match u.int_in_range(0..=9)? {
        0..=2 if !graph.initializer.is_empty() => {
            let i = u.choose_index(graph.initializer.len())?;
            tensor(&mut graph.initializer[i], u)?;
        }
        3..=5 if !graph.node.is_empty() => {
            let i = u.choose_index(graph.node.len())?;
            node(&mut graph.node[i], &names, &kinds, u)?;
        }
        6 if !graph.input.is_empty() => {
            let i = u.choose_index(graph.input.len())?;
            let shape = graph.input[i].r#type.as_mut().and_then(|t| t.tensor_type.as_mut());
            if let Some(tensor) = shape {
                if u.ratio(1, 4)? {
                    tensor.elem_type = u.int_in_range(-1..=25)?;
                }
                if let Some(shape) = tensor.shape.as_mut().filter(|s| !s.dim.is_empty()) {
                    let d = u.choose_index(shape.dim.len())?;
                    shape.dim[d].dim_value = Some(*u.choose(&LENGTHS)?);
                }
            }
        }
        7 if graph.node.len() > 1 => {
            let (a, b) = (u.choose_index(graph.node.len())?, u.choose_index(graph.node.len())?);
            graph.node.swap(a, b);
        }
        8 if !graph.node.is_empty() => {
            let i = u.choose_index(graph.node.len())?;
            if u.arbitrary()? {
                graph.node.remove(i);
            } else {
                let twice = graph.node[i].clone();
                graph.node.push(twice);
            }
        }
        _ if !graph.initializer.is_empty() => {
            let i = u.choose_index(graph.initializer.len())?;
            if u.arbitrary()? {
                graph.initializer.remove(i);
            } else {
                let twice = graph.initializer[i].clone();
                graph.initializer.push(twice);
            }
        }
        _ => {}
    }
    Ok(())
}

/// A graph, or one that lies in it: a branch, or the body of a loop.
fn within<'a>(graph: &'a mut GraphProto, u: &mut Unstructured) -> Result<&'a mut GraphProto> {
    let attributes =
        graph.node.iter().enumerate().flat_map(|(n, node)| node.attribute.iter().enumerate().map(move |(a, of)| (n, a, of)));
    let bodies: Vec<(usize, usize)> = attributes.filter(|(.., of)| of.g.is_some()).map(|(n, a, _)| (n, a)).collect();
    if bodies.is_empty() || u.ratio(1, 3)? {
        return Ok(graph);
    }
    let (node, attribute) = *u.choose(&bodies)?;
    match &mut graph.node[node].attribute[attribute].g {
        Some(body) => within(body, u),
        None => Err(arbitrary::Error::IncorrectFormat),
    }
}

fn tensor(tensor: &mut TensorProto, u: &mut Unstructured) -> Result<()> {
    match u.int_in_range(0..=6)? {
        0 if !tensor.dims.is_empty() => {
            let i = u.choose_index(tensor.dims.len())?;
            tensor.dims[i] = *u.choose(&LENGTHS)?;
        }
        1 => tensor.dims.push(*u.choose(&LENGTHS)?),
        2 => {
            tensor.dims.pop();
        }
        3 => tensor.data_type = u.int_in_range(-1..=25)?,
        4 => {
            if let Some(raw) = tensor.raw_data.as_mut().filter(|r| r.len() >= 8) {
                let i = u.choose_index(raw.len() / 4)?;
                let bytes =
                    if u.arbitrary()? { u.choose(&FLOATS)?.to_le_bytes() } else { (*u.choose(&LENGTHS)? as i32).to_le_bytes() };
                raw[4 * i..4 * i + 4].copy_from_slice(&bytes);
                if u.arbitrary()? && 4 * i + 8 <= raw.len() {
                    raw[4 * i..4 * i + 8].copy_from_slice(&u.choose(&LENGTHS)?.to_le_bytes());
                }
            }
        }
        5 => {
            if let Some(raw) = tensor.raw_data.as_mut() {
                let len = u.int_in_range(0..=raw.len())?;
                raw.truncate(len);
            }
        }
        _ => tensor.data_location = 1,
    }
    Ok(())
}

fn node(node: &mut NodeProto, names: &[String], kinds: &[&str], u: &mut Unstructured) -> Result<()> {
    match u.int_in_range(0..=7)? {
        0 => node.op_type = u.choose(kinds)?.to_string(),
        1 if !node.input.is_empty() && !names.is_empty() => {
            let i = u.choose_index(node.input.len())?;
            node.input[i] = if u.ratio(1, 6)? { String::new() } else { u.choose(names)?.clone() };
        }
        2 if !names.is_empty() => node.input.push(u.choose(names)?.clone()),
        3 => {
            node.input.pop();
        }
        4 => node.output.push(if u.arbitrary()? || names.is_empty() { "more".into() } else { u.choose(names)?.clone() }),
        _ if node.attribute.is_empty() => {
            let name = *u.choose(&[
                "axis",
                "kernel_shape",
                "pads",
                "strides",
                "group",
                "perm",
                "axes",
                "keepdims",
                "transB",
                "alpha",
                "to",
            ])?;
            let mut new = AttributeProto { name: name.into(), ..AttributeProto::default() };
            attribute(&mut new, u)?;
            node.attribute.push(new);
        }
        _ => {
            let i = u.choose_index(node.attribute.len())?;
            attribute(&mut node.attribute[i], u)?;
        }
    }
    Ok(())
}

fn attribute(attribute: &mut AttributeProto, u: &mut Unstructured) -> Result<()> {
    match u.int_in_range(0..=4)? {
        0 => {
            (attribute.r#type, attribute.i) = (2, *u.choose(&LENGTHS)?);
        }
        1 => {
            let count = u.int_in_range(0..=6)?;
            attribute.r#type = 7;
            attribute.ints = (0..count).map(|_| u.choose(&LENGTHS).copied()).collect::<Result<_>>()?;
        }
        2 => {
            (attribute.r#type, attribute.f) = (1, *u.choose(&FLOATS)?);
        }
        3 => {
            (attribute.r#type, attribute.s) =
                (3, u.choose(&["SAME_UPPER", "VALID", "reflect", "cubic", "\u{0}", "none"])?.as_bytes().to_vec());
        }
        _ => attribute.r#type = u.int_in_range(-1..=14)?,
    }
    Ok(())
}
