//! Normalised exponentials.

use std::sync::Arc;

use tch::Tensor;

use super::{own, wrap_axis};
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::{Matters, OutputRange, Quantization};
use crate::error::OpResult;
use crate::op::{Cost, Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &["Hardmax", "LogSoftmax", "Softmax"];

#[derive(Debug)]
struct Softmax {
    kind: &'static str,
    axis: i64,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    Ok(Some(Arc::new(Softmax { kind, axis: attributes.get_int("axis", -1)? })))
}

impl Operator for Softmax {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = wrap_axis(self.axis, x.dim())?;
        Ok(vec![match self.kind {
            "Softmax" => x.f_softmax(axis, x.kind())?,
            "LogSoftmax" => x.f_log_softmax(axis, x.kind())?,
            _ => {
                let at = x.f_argmax(axis, true)?;
                x.f_zeros_like()?.f_scatter_value(axis, &at, 1.0)?
            }
        }])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: 3 * shapes.output_len(0) }
    }

    fn axes(&self, links: &mut AxisLinks) {
        let rank = links.shape(Slot::In(0)).len();
        links.same_shape(0, 0);
        if let Ok(axis) = wrap_axis(self.axis, rank) {
            links.fix((Slot::In(0), axis as usize));
        }
    }

    fn quantization(&self) -> Quantization {
        match self.kind {
            "Softmax" => Quantization::TFLITE.within(OutputRange::Unit),
            _ => Quantization::FLOAT,
        }
    }

    fn matters(&self, _input: usize) -> Matters {
        // Logarithms tell small probabilities apart.
        if self.kind == "Softmax" { Matters::NearLargest { axis: self.axis } } else { Matters::All }
    }

    fn logits(&self) -> Option<usize> {
        (self.kind != "Hardmax").then_some(0)
    }
}
