//! Operators of integers (`QLinearConv` and its kin, of ONNX and of com.microsoft) restated as what they mean: the operator of floats between
//! DequantizeLinear and QuantizeLinear.

use sinter_model::{Attribute, Attributes, Node};
use tch::{Kind, Tensor};

use crate::proto::NodeProto;
use crate::reader::Reader;

/// What an operator of integers means.
struct Form {
    /// The operator of floats.
    kind: &'static str,
    /// Where each operand stands, its scale and its zero point behind it.
    operands: Vec<usize>,
    /// Where a bias of 32 bits stands, in units of the product of both operands' scales.
    bias: Option<usize>,
    /// Where the result's scale stands, its zero point behind it.
    result: usize,
}

/// What a node means, where it is an operator of integers.
fn form(proto: &NodeProto) -> Option<Form> {
    let (two, one) = (vec![0, 3], vec![0]);
    let (kind, operands, bias, result) = match (proto.op_type.as_str(), proto.domain.as_str()) {
        ("QLinearConv", "" | "ai.onnx" | "com.microsoft") => ("Conv", two, Some(8), 6),
        ("QLinearMatMul", "" | "ai.onnx" | "com.microsoft") => ("MatMul", two, None, 6),
        ("QGemm", "com.microsoft") => ("Gemm", two, Some(6), 7),
        ("QLinearAdd", "com.microsoft") => ("Add", two, None, 6),
        ("QLinearMul", "com.microsoft") => ("Mul", two, None, 6),
        ("QLinearAveragePool", "com.microsoft") => ("AveragePool", one, None, 3),
        ("QLinearGlobalAveragePool", "com.microsoft") => ("GlobalAveragePool", one, None, 3),
        ("QLinearLeakyRelu", "com.microsoft") => ("LeakyRelu", one, None, 3),
        ("QLinearSigmoid", "com.microsoft") => ("Sigmoid", one, None, 3),
        ("QLinearSoftmax", "com.microsoft") => ("Softmax", one, None, 3),
        ("QLinearReduceMean", "com.microsoft") => ("ReduceMean", one, None, 3),
        ("QLinearConcat", "com.microsoft") => ("Concat", (2..proto.input.len()).step_by(3).collect(), None, 0),
        _ => return None,
    };
    Some(Form { kind, operands, bias, result })
}

impl Reader<'_> {
    /// The nodes that an operator of integers means; `None` for any other.
    pub(crate) fn restate_integers(
        &mut self,
        name: &str,
        proto: &NodeProto,
        attributes: &Attributes,
    ) -> Result<Option<Vec<Node>>, String> {
        let Some(form) = form(proto) else { return Ok(None) };
        let mut attributes = attributes.clone();
        self.adapt(form.kind, name, &mut attributes)?;
        let slot = |i: usize| proto.input.get(i).cloned().unwrap_or_default();
        let mut nodes = Vec::new();
        let mut inputs = Vec::new();
        for (nth, &at) in form.operands.iter().enumerate() {
            let axis = match (form.kind, nth) {
                ("Conv", 1) => 0,
                ("Gemm", 1) if attributes.get_int("transB", 0).map_err(|e| e.to_string())? != 0 => 0,
                ("MatMul", 0) => -2,
                ("MatMul", 1) => -1,
                _ => 1,
            };
            inputs.push(self.dequantized([slot(at), slot(at + 1), slot(at + 2)], axis, &mut nodes)?);
        }
        if let Some(bias) = form.bias.map(slot).filter(|b| !b.is_empty()) {
            let alpha = attributes.get_float("alpha", 1.0).map_err(|e| e.to_string())?;
            let scale = self.stored_scale(&slot(1))? * self.stored_scale(&slot(4))? * alpha;
            let scale = self.model.add_constant(&format!("{name}.bias_scale"), scale.to_kind(Kind::Float));
            inputs.push(self.dequantized([bias, scale, String::new()], 0, &mut nodes)?);
        }
        if form.kind == "ReduceMean" {
            self.axes_to_input(name, &mut attributes, &mut inputs);
        }
        let output = proto.output.first().cloned().unwrap_or_default();
        let [scale, zero] = [slot(form.result), slot(form.result + 1)];
        let told = |e: sinter_model::OpError| e.to_string();
        if scale.is_empty() {
            nodes.push(Node::new(name, form.kind, attributes, inputs, vec![output]).map_err(told)?);
            return Ok(Some(nodes));
        }
        let real = self.model.free_name(&format!("{output}.real"));
        nodes.push(Node::new(name, form.kind, attributes, inputs, vec![real.clone()]).map_err(told)?);
        let rounded = [real, scale, zero].into_iter().filter(|i| !i.is_empty()).collect();
        let quantize = format!("{name}.quantize");
        nodes.push(Node::new(&quantize, "QuantizeLinear", Attributes::new(), rounded, vec![output]).map_err(told)?);
        Ok(Some(nodes))
    }

    /// What the operator of floats calls otherwise, or has not.
    fn adapt(&self, kind: &str, name: &str, attributes: &mut Attributes) -> Result<(), String> {
        if let Some(Attribute::Int(last)) = attributes.0.remove("channels_last")
            && last != 0
        {
            return Err("channels at the end are not supported: quantize the model without `channels_last`".into());
        }
        if kind == "Softmax"
            && let Some(Attribute::Int(opset)) = attributes.0.remove("opset")
            && opset < 13
        {
            return Err(format!(
                "`{name}` is the Softmax of opset {opset}, which means something else: opset 13 or later is read"
            ));
        }
        Ok(())
    }

    /// A stored scale.
    fn stored_scale(&self, name: &str) -> Result<Tensor, String> {
        let weight = self.model.weights.get(name).ok_or_else(|| format!("its scale `{name}` is computed, not stored"))?;
        let scale = weight.latent().f_to_kind(Kind::Double).map_err(|e| e.to_string())?;
        // A tensor of one number is a number.
        let shape: &[i64] = if scale.numel() == 1 { &[] } else { &[-1] };
        scale.f_reshape(shape).map_err(|e| e.to_string())
    }

    /// The real value of an operand, by one node however many read it.
    fn dequantized(&mut self, [value, scale, zero]: [String; 3], axis: i64, nodes: &mut Vec<Node>) -> Result<String, String> {
        if value.is_empty() || scale.is_empty() {
            return Err("an operand or its scale is missing".into());
        }
        let key = (value, scale, zero, axis);
        if let Some(known) = self.dequantized.get(&key) {
            return Ok(known.clone());
        }
        let real = self.model.free_name(&format!("{}.dequantized", key.0));
        let inputs = [&key.0, &key.1, &key.2].into_iter().filter(|i| !i.is_empty()).cloned().collect();
        let attributes = Attributes::new().int("axis", axis);
        nodes.push(Node::new(&real, "DequantizeLinear", attributes, inputs, vec![real.clone()]).map_err(|e| e.to_string())?);
        self.dequantized.insert(key, real.clone());
        Ok(real)
    }
}
