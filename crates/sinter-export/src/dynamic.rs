//! Layers that read a value quantized by its own range, as products of integers: DynamicQuantizeLinear, MatMulInteger or ConvInteger,
//! and the two scales, in the order that ONNX Runtime fuses.

use std::collections::BTreeMap;

use sinter_model::{
    Attributes, Boundary, ElementType, Granularity, IntegerKernel, Model, Node, OpResult, Quantizer, Role, Weight,
};
use tch::{Kind, Tensor};

use crate::error::QdqError;

/// A value in integers: its name, and those of its scale and zero point.
struct Quantized {
    integers: String,
    scale: String,
    zero_point: String,
}

/// Layers as products of integers.
pub(crate) struct Lowering<'a> {
    model: &'a Model,
    /// By the name of the float value that stands for it.
    values: BTreeMap<&'a str, Quantized>,
    /// The nodes that read each value or weight.
    readers: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Lowering<'a> {
    pub fn new(model: &'a Model) -> Self {
        let producers = model.graph.producers();
        let quantized = |node: &'a Node| {
            let [integers, scale, zero_point] = &node.inputs[..] else { return None };
            let source = &model.graph.nodes[*producers.get(integers.as_str())?];
            let whole =
                node.op.boundary() == Some(Boundary::Dequantize) && source.op.boundary() == Some(Boundary::DynamicQuantize);
            let name = node.outputs.first().filter(|_| whole)?;
            let [integers, scale, zero_point] = [integers, scale, zero_point].map(String::clone);
            Some((name.as_str(), Quantized { integers, scale, zero_point }))
        };
        Self { model, values: model.graph.nodes.iter().filter_map(quantized).collect(), readers: model.graph.consumers() }
    }

    /// Whether a value stands for integers that were quantized by their own range.
    pub fn is_quantized(&self, value: &str) -> bool {
        self.values.contains_key(value)
    }

    /// The nodes that stand for `node`, their stored tensors put into `out`; `None` when it is no layer that integers can compute.
    pub fn layer(&self, node: &Node, out: &mut Model) -> Result<Option<Vec<Node>>, QdqError> {
        let (Some(x), Some(weight)) = (node.inputs.first(), node.inputs.get(1)) else { return Ok(None) };
        let (Some(x), Some(stored)) = (self.values.get(x.as_str()), self.model.weights.get(weight)) else { return Ok(None) };
        let Some(quantizer) =
            stored.quantizer().filter(|g| g.bits() <= 8 && g.zero_points().is_ok_and(|z| z.iter().all(|&z| z == 0)))
        else {
            return Ok(None);
        };
        self.product(node, x, weight, stored, quantizer, out).map_err(|source| QdqError { name: weight.clone(), source })
    }

    fn product(
        &self,
        node: &Node,
        x: &Quantized,
        name: &str,
        weight: &Weight,
        quantizer: &Quantizer,
        out: &mut Model,
    ) -> OpResult<Option<Vec<Node>>> {
        let size = weight.size();
        // Output channels lie on this axis; a scale each is all that a sum can be multiplied with afterwards.
        let Some(IntegerKernel::Product { out_axis, convolution }) = node.op.integer_kernel() else { return Ok(None) };
        if !convolution && size.len() != 2 {
            return Ok(None);
        }
        let fits = match quantizer.granularity() {
            Granularity::Tensor => true,
            Granularity::Channel(axis) => axis == out_axis,
            Granularity::Group { .. } => false,
        };
        if !fits {
            return Ok(None);
        }
        let integers = quantizer.quantize(&weight.effective()?.f_detach()?)?;
        let turned = !convolution && out_axis == 0;
        // Stored once for all that read it, some of them maybe as floats: as it lies, under the name that those use too. Alone it is turned here.
        let alone = self.readers.get(name).is_some_and(|r| r.len() == 1);
        let integers = if turned && alone { integers.f_tr()?.f_contiguous()? } else { integers };
        // ConvInteger wants bytes without a sign in ONNX Runtime.
        let (shift, kind, form) = if convolution { (128, Kind::Uint8, ".unsigned") } else { (0, Kind::Int8, "") };
        let mut store = |what: &str, value: Tensor| {
            let stored = format!("{name}{form}.{what}");
            out.weights.insert(stored.clone(), Weight::new(Role::Constant, value));
            stored
        };
        let stored = store("quantized", integers.f_add_scalar(shift)?.f_to_kind(kind)?);
        // Names of their own: what reads the weight as floats has scales of another shape.
        let zero_point = store("product_zero_point", Tensor::from(shift).f_to_kind(kind)?);
        let broad = if convolution { [vec![-1], vec![1; size.len() - 2]].concat() } else { vec![-1] };
        let scales = Tensor::f_from_slice(&quantizer.scales()?)?;
        let scale = store("product_scale", scales.f_reshape(if scales.numel() == 1 { vec![] } else { broad.clone() })?);
        let output = node.outputs[0].clone();
        let part = |what: &str| format!("{output}.{what}");
        let (kind, attributes) = match convolution {
            true => ("ConvInteger", node.attributes.clone()),
            false => ("MatMulInteger", Attributes::new()),
        };
        let matrix = if turned && !alone { part("turned") } else { stored.clone() };
        let inputs = vec![x.integers.clone(), matrix.clone(), x.zero_point.clone(), zero_point];
        let bias = node.inputs.get(2).filter(|b| !b.is_empty());
        let scaled = if bias.is_some() { part("scaled") } else { output.clone() };
        let float = Attributes::new().int("to", ElementType::Float.to_onnx() as i64);
        let new = |kind: &str, attributes, inputs: Vec<String>, output: String| {
            Node::new(&output, kind, attributes, inputs, vec![output.clone()])
        };
        let turn = Attributes::new().ints("perm", &[1, 0]);
        let turn = if matrix == stored { None } else { Some(new("Transpose", turn, vec![stored], matrix)?) };
        let mut nodes: Vec<Node> = turn.into_iter().collect();
        nodes.extend([
            new(kind, attributes, inputs, part("integers"))?,
            new("Cast", float, vec![part("integers")], part("sum"))?,
            new("Mul", Attributes::new(), vec![x.scale.clone(), scale], part("scale"))?,
            new("Mul", Attributes::new(), vec![part("sum"), part("scale")], scaled.clone())?,
        ]);
        if let Some(bias) = bias {
            let bias = match (convolution, self.model.weights.get(bias)) {
                (true, Some(stored)) => {
                    let value = stored.effective()?.f_detach()?.f_reshape(broad)?;
                    let name = format!("{bias}.broad");
                    out.weights.insert(name.clone(), Weight::new(stored.role, value));
                    name
                }
                (true, None) => return Ok(None),
                (false, _) => bias.clone(),
            };
            nodes.push(new("Add", Attributes::new(), vec![scaled, bias], output)?);
        }
        Ok(Some(nodes))
    }
}
