//! A ReLU or Clip that nothing before it could take along.

use std::sync::Arc;

use sinter_model::Node;

use super::table::{TableKernel, elementwise};
use super::{Lowers, Prefers};
use crate::device::activation::Activation;
use crate::device::error::LowerError;
use crate::device::lowering::Lowering;
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Clip", "Relu"], prefers: Prefers::AsReaders, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, output) = (node.inputs[0].clone(), node.outputs[0].clone());
    let Some(activation) = l.activation(node)? else {
        return Lowering::refuse(node, "TensorFlow Lite clips to 0 and more, to 0..6 and to -1..1 alone");
    };
    let layout = l.layout(&x);
    if activation == Activation::None {
        return l.alias(&output, &x, layout, &node.name);
    }
    elementwise(l, node, Arc::new(Relu(activation)), layout, None)
}

#[derive(Debug)]
struct Relu(Activation);

impl DeviceOperator for Relu {
    fn builtin(&self, io: &Io) -> Builtin {
        let version = io.version();
        match self.0 {
            Activation::ReluN1To1 => Builtin { code: 20, version: 1, name: "RELU_N1_TO_1", method: "AddReluN1To1" },
            Activation::Relu6 => Builtin { code: 21, version, name: "RELU6", method: "AddRelu6" },
            _ => Builtin { code: 19, version, name: "RELU", method: "AddRelu" },
        }
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        let (low, high) = io.ends(self.0)?;
        Ok(Box::new(TableKernel::rescaled(io, low, high)?))
    }
}
