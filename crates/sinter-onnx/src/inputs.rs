//! What comes into a graph and goes out of it: dimensions bound, constants stored, states told.

use prost::Message;
use sinter_model::{Dim, ElementType, Role, ValueInfo, Weight, elements, guarded};
use std::path::Path;
use tch::Tensor;

use crate::error::OnnxError;
use crate::import::{Options, bytes_of};
use crate::proto::{GraphProto, ModelProto, ValueInfoProto};
use crate::reader::Reader;

impl Reader<'_> {
    /// Reads what comes in and what goes out, and binds free dimensions.
    pub(crate) fn inputs_and_outputs(&mut self, graph: &GraphProto, options: &Options) -> Result<(), OnnxError> {
        let inputs: Vec<_> = graph.input.iter().filter(|i| !self.model.weights.contains_key(&i.name)).collect();
        check_named(&inputs, graph, options)?;
        self.model.graph.state.clone_from(&options.state);
        let is_state = |name: &str| options.state.contains_key(name);
        let needed =
            inputs.iter().map(|i| i.name.clone()).filter(|name| !options.constants.contains_key(name) && !is_state(name));
        let needed: Vec<String> = needed.collect();
        for input in &inputs {
            let mut info = value_info(input)?;
            if let Some(numbers) = options.constants.get(&input.name) {
                for (axis, dim) in info.shape.iter_mut().enumerate() {
                    let Dim::Free(name) = dim else { continue };
                    *dim = Dim::Fixed(options.dim(name, &input.name, axis).unwrap_or(1));
                }
                self.constant_input(&info, numbers)?;
                continue;
            }
            let only = options.shapes.get(&None).filter(|_| needed.len() == 1 && !is_state(&input.name));
            let sample = options.shapes.get(&Some(input.name.clone())).or(only);
            // What a sample has before the axes of the input but for its first: the steps of a model with states, or nothing, or the first axis itself.
            let steps = usize::from(!options.state.is_empty());
            let lead = sample.and_then(|s| (s.len() + 1).checked_sub(info.shape.len() + steps)).filter(|l| *l <= 1);
            let sample = sample.filter(|_| !is_state(&input.name));
            for (axis, dim) in info.shape.iter_mut().enumerate() {
                let Dim::Free(name) = dim else { continue };
                let place = || (axis + lead? + steps).checked_sub(1).filter(|_| axis > 0 || lead == Some(1));
                let by_data = || sample?.get(place()?).copied();
                match options.dim(name, &input.name, axis).or_else(by_data) {
                    Some(n) => *dim = Dim::Fixed(n),
                    None if axis == 0 || is_state(&input.name) => {}
                    None => return Err(OnnxError::FreeDim { name: info.name, dim: name.clone(), axis, needed }),
                }
            }
            // Reading it runs with three samples.
            elements(&info.concrete(3), 4).map_err(|e| OnnxError::Tensor { name: info.name.clone(), reason: e.to_string() })?;
            self.model.graph.inputs.push(info);
        }
        self.model.graph.outputs = graph.output.iter().map(value_info).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Stores what an input always is.
    fn constant_input(&mut self, info: &ValueInfo, numbers: &[f64]) -> Result<(), OnnxError> {
        let fail = |reason: String| OnnxError::Tensor { name: info.name.clone(), reason };
        let shape = info.concrete(1);
        let wanted: i64 = shape.iter().product();
        if numbers.len() != 1 && numbers.len() as i64 != wanted {
            return Err(fail(format!("it is {}, and {} numbers are given for it", info.shape_text(), numbers.len())));
        }
        let real =
            matches!(info.element, ElementType::Float | ElementType::Double | ElementType::Float16 | ElementType::Bfloat16);
        if let Some(odd) = numbers.iter().find(|v| !v.is_finite() || (!real && v.fract() != 0.0)) {
            let what = if real { "finite numbers" } else { "whole numbers" };
            return Err(fail(format!("it takes {what}, and {odd} is given for it")));
        }
        let torch = |e: tch::TchError| fail(e.to_string());
        let values = Tensor::f_from_slice(numbers).and_then(|t| t.f_to_kind(info.element.kind())).map_err(torch)?;
        let values = values.f_expand([wanted], false).and_then(|t| t.f_reshape(&shape)?.f_contiguous()).map_err(torch)?;
        self.model.weights.insert(info.name.clone(), Weight::new(Role::Constant, values.copy()));
        let text: Vec<String> = numbers.iter().map(f64::to_string).collect();
        self.notes.push(format!("input `{}` is always {} and is no input of what is written", info.name, text.join(", ")));
        Ok(())
    }
}

/// What goes into a model, and what comes out of it.
#[derive(Debug, Clone, Default)]
pub struct Interface {
    /// Inputs that are no initializers.
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
}

/// What a file says of its inputs and outputs; nothing else of it is looked at, and free dimensions stay free.
pub fn interface(path: &Path) -> Result<Interface, OnnxError> {
    let look = || {
        let proto = ModelProto::decode(&bytes_of(path)?[..]).map_err(|e| OnnxError::Decode(e.to_string()))?;
        let graph = proto.graph.ok_or(OnnxError::NoGraph)?;
        let stored = |name: &str| graph.initializer.iter().any(|t| t.name == name);
        let inputs = graph.input.iter().filter(|i| !stored(&i.name)).map(value_info).collect::<Result<_, _>>()?;
        Ok(Interface { inputs, outputs: graph.output.iter().map(value_info).collect::<Result<_, _>>()? })
    };
    guarded(look).unwrap_or_else(|said| Err(OnnxError::Nonsense(said)))
}

/// Errors where `options` name an input or output that a graph has not, or leave nothing for data.
fn check_named(inputs: &[&ValueInfoProto], graph: &GraphProto, options: &Options) -> Result<(), OnnxError> {
    let outputs: Vec<&ValueInfoProto> = graph.output.iter().collect();
    let absent = |name: &String, there: &[&ValueInfoProto], what: &str| {
        let names: Vec<&str> = there.iter().map(|v| v.name.as_str()).collect();
        let reason = format!("the model has no such {what}; it has {}", names.join(", "));
        there.iter().all(|v| v.name != *name).then(|| OnnxError::Tensor { name: name.clone(), reason })
    };
    let constants = options.constants.keys().map(|name| (name, inputs, "input to be constant"));
    let states = options
        .state
        .iter()
        .flat_map(|(input, output)| [(input, inputs, "input to be a state"), (output, &outputs[..], "output to be a state")]);
    if let Some(error) = constants.chain(states).find_map(|(name, there, what)| absent(name, there, what)) {
        return Err(error);
    }
    match inputs.first() {
        Some(first) if inputs.iter().all(|i| options.state.contains_key(&i.name)) => {
            Err(OnnxError::Tensor { name: first.name.clone(), reason: "every input is a state: nothing is left for data".into() })
        }
        _ => Ok(()),
    }
}

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
