//! Sixteen bits of floating point become 32 on reading: what trains, rounds and measures does so in float32.

use sinter_model::{Attribute, Attributes, ElementType, Model, Node, OpResult, Weight};
use tch::Kind;

/// Attributes that name an element type.
const TYPES: [&str; 3] = ["to", "dtype", "output_dtype"];

fn is_half(element: ElementType) -> bool {
    matches!(element, ElementType::Float16 | ElementType::Bfloat16)
}

/// Widens all that is stored, computed or asked for in sixteen bits of floating point; returns whether anything was.
pub(crate) fn widen(model: &mut Model) -> OpResult<bool> {
    let mut any = false;
    for weight in model.weights.values_mut().filter(|w| matches!(w.latent().kind(), Kind::Half | Kind::BFloat16)) {
        *weight = Weight::new(weight.role, weight.latent().f_to_kind(Kind::Float)?);
        any = true;
    }
    for info in model.graph.inputs.iter_mut().chain(&mut model.graph.outputs).filter(|v| is_half(v.element)) {
        info.element = ElementType::Float;
        any = true;
    }
    for node in &mut model.graph.nodes {
        if let Some(attributes) = widened(&node.attributes)? {
            *node = Node::new(&node.name, node.kind(), attributes, node.inputs.clone(), node.outputs.clone())?;
            any = true;
        }
    }
    Ok(any)
}

/// A node's attributes in 32 bits; `None` where none speaks of sixteen.
fn widened(attributes: &Attributes) -> OpResult<Option<Attributes>> {
    let mut new = attributes.clone();
    for (name, value) in &attributes.0 {
        let wide = match value {
            Attribute::Int(code)
                if TYPES.contains(&name.as_str()) && ElementType::from_onnx(*code as i32).is_some_and(is_half) =>
            {
                Attribute::Int(ElementType::Float.to_onnx() as i64)
            }
            Attribute::Tensor { element, shape, data } if is_half(*element) => {
                let tensor = sinter_model::tensor_of(name, *element, shape, data)?.f_to_kind(Kind::Float)?;
                let data = sinter_model::to_bytes(&tensor)?;
                Attribute::Tensor { element: ElementType::Float, shape: shape.clone(), data }
            }
            _ => continue,
        };
        new.0.insert(name.clone(), wide);
    }
    Ok((new != *attributes).then_some(new))
}
