//! What older opsets say, restated as opset 21 says it.

use sinter_model::{Attribute, Attributes};
use tch::Tensor;

use crate::proto::NodeProto;
use crate::reader::Reader;

/// Operators that have meant the same since opset 1, but for hints on memory that nothing reads today.
const EVER_THE_SAME: [&str; 32] = [
    "Abs",
    "Ceil",
    "Conv",
    "ConvTranspose",
    "Elu",
    "Exp",
    "Flatten",
    "Floor",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "HardSigmoid",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Log",
    "MaxPool",
    "Neg",
    "Not",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "Transpose",
];

impl Reader<'_> {
    /// Whether an operator of an opset before 7 may be read.
    pub(crate) fn check_age(&self, proto: &NodeProto) -> Result<(), String> {
        if self.opset < 7 && !EVER_THE_SAME.contains(&proto.op_type.as_str()) {
            return Err(format!(
                "it may mean something else in opset {}: export the model again with opset 13 or later",
                self.opset
            ));
        }
        Ok(())
    }

    /// Restates what older opsets say as opset 21 says it.
    pub(crate) fn upgrade(
        &mut self,
        name: &str,
        proto: &NodeProto,
        attributes: &mut Attributes,
        inputs: &mut Vec<String>,
    ) -> Result<(), String> {
        let kind = proto.op_type.as_str();
        if kind.starts_with("Reduce") || matches!(kind, "Squeeze" | "Unsqueeze") {
            self.axes_to_input(name, attributes, inputs);
        }
        // Sizes, where there are any, are an attribute before opset 13 and an input since; else all parts are equal.
        let sized = inputs.len() >= 2 || attributes.0.contains_key("split");
        if kind == "Split" && !sized && !attributes.0.contains_key("num_outputs") {
            attributes.0.insert("num_outputs".into(), Attribute::Int(proto.output.len() as i64));
        }
        if self.opset < 13 {
            self.upgrade_early(name, proto, attributes, inputs)?;
        }
        if kind == "GroupNormalization" && self.opset < 21 {
            let groups = match attributes.0.get("num_groups") {
                Some(Attribute::Int(groups)) => *groups,
                _ => return Err("num_groups is missing".into()),
            };
            // Scale and bias were per group; the operator itself widens them once the channels are known.
            if groups < 1 {
                return Err(format!("num_groups={groups} should be at least 1"));
            }
        }
        Ok(())
    }

    /// Axes that were an attribute are the second input since.
    pub(crate) fn axes_to_input(&mut self, name: &str, attributes: &mut Attributes, inputs: &mut Vec<String>) {
        if inputs.len() == 1
            && let Some(Attribute::Ints(axes)) = attributes.0.remove("axes")
        {
            inputs.push(self.model.add_constant(&format!("{name}.axes"), Tensor::from_slice(&axes)));
        }
    }

    /// Before opset 13 many inputs were attributes; a few operators meant something else, and are refused.
    fn upgrade_early(
        &mut self,
        name: &str,
        proto: &NodeProto,
        attributes: &mut Attributes,
        inputs: &mut Vec<String>,
    ) -> Result<(), String> {
        let kind = proto.op_type.as_str();
        let changed = match kind {
            "Upsample" | "Resize" => self.opset < 11,
            "BatchNormalization" | "Dropout" => proto.output.iter().filter(|o| !o.is_empty()).count() > 1,
            _ => false,
        };
        if changed {
            return Err(format!(
                "it means something else in opset {}: export the model again with opset 13 or later",
                self.opset
            ));
        }
        let scalar = |v: f32| Tensor::from_slice(&[v]).reshape([0i64; 0]);
        let mut moved: Vec<(usize, Tensor)> = Vec::new();
        let mut take = |key: &str| attributes.0.remove(key);
        match kind {
            "Clip" => {
                for (slot, key) in [(1, "min"), (2, "max")] {
                    if let Some(Attribute::Float(v)) = take(key) {
                        moved.push((slot, scalar(v)));
                    }
                }
            }
            "Dropout" => {
                if let Some(Attribute::Float(v)) = take("ratio") {
                    moved.push((1, scalar(v)));
                }
            }
            "Pad" => {
                if let Some(Attribute::Ints(v)) = take("pads") {
                    moved.push((1, Tensor::from_slice(&v)));
                    if let Some(Attribute::Float(v)) = take("value") {
                        moved.push((2, scalar(v)));
                    }
                }
            }
            "TopK" => {
                if let Some(Attribute::Int(k)) = take("k") {
                    moved.push((1, Tensor::from_slice(&[k])));
                }
            }
            "Slice" => {
                for (slot, key) in [(1, "starts"), (2, "ends"), (3, "axes")] {
                    if let Some(Attribute::Ints(v)) = take(key) {
                        moved.push((slot, Tensor::from_slice(&v)));
                    }
                }
            }
            "Split" => {
                if let Some(Attribute::Ints(v)) = take("split") {
                    moved.push((1, Tensor::from_slice(&v)));
                }
            }
            _ => {}
        }
        for (slot, value) in moved {
            let constant = self.model.add_constant(&format!("{name}.input{slot}"), value);
            if inputs.len() <= slot {
                inputs.resize(slot + 1, String::new());
            }
            inputs[slot] = constant;
        }
        Ok(())
    }
}
