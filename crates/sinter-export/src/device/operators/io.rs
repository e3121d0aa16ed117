//! What operators ask of the tensors around a step.

use sinter_model::{Multiplier, QuantParams};

use crate::device::activation::Activation;
use crate::device::arithmetic::Product;
use crate::device::error::LowerError;
use crate::device::program::Io;
use crate::device::tensor::{Element, TensorInfo};
use crate::device::window::{Geometry, Window2d};

impl<'a> Io<'a> {
    /// An input.
    pub fn input(&self, i: usize) -> &'a TensorInfo {
        &self.program.tensors[self.step.inputs[i]]
    }

    /// The result.
    pub fn output(&self) -> &'a TensorInfo {
        &self.program.tensors[self.step.output]
    }

    /// Whether the first input is in eight bits.
    pub fn is_int8(&self) -> bool {
        self.step.inputs.first().is_some_and(|&t| self.program.tensors[t].element == Element::Int8)
    }

    /// 1, or 2 in eight bits: the versions of most operators.
    pub fn version(&self) -> i32 {
        1 + i32::from(self.is_int8())
    }

    /// The parameters of an input in eight bits; errors on any other.
    pub fn params(&self, i: usize) -> Result<&'a QuantParams, LowerError> {
        self.of(self.input(i))
    }

    /// Those of the result.
    pub fn result(&self) -> Result<&'a QuantParams, LowerError> {
        self.of(self.output())
    }

    fn of(&self, info: &'a TensorInfo) -> Result<&'a QuantParams, LowerError> {
        let found = info.quantization.as_ref().filter(|_| info.element == Element::Int8);
        found.ok_or_else(|| {
            self.refuse("is computed in float, and the C source has integer kernels: quantize for a target with `rules: tflite`")
        })
    }

    /// The integers of a constant input.
    pub fn int32s(&self, i: usize) -> Result<Vec<i32>, LowerError> {
        self.input(i).int32s().ok_or_else(|| self.refuse("reads a list of integers that is not stored"))
    }

    /// The error of this step.
    pub fn refuse(&self, reason: &str) -> LowerError {
        LowerError::Node { node: self.step.node.clone(), kind: self.step.op.builtin(self).name.into(), reason: reason.into() }
    }

    /// A factor for sums.
    pub fn multiplier(&self, factor: f64) -> Result<Multiplier, LowerError> {
        Multiplier::new(factor).map_err(|e| self.refuse(&e.to_string()))
    }

    /// The smallest and the largest integer that an activation lets through.
    pub fn ends(&self, activation: Activation) -> Result<(i32, i32), LowerError> {
        let (y, (low, high)) = (self.result()?, activation.range());
        let at = |v: f32| if v.is_finite() { y.zero_point() as f64 + (v / y.scale(0)).round() as f64 } else { v as f64 };
        Ok((at(low).max(-128.0) as i32, at(high).min(127.0) as i32))
    }

    /// The sum of products with the second input, whose scales lie along `out_axis`, and the bias in the third.
    pub fn product(&self, activation: Activation, out_axis: usize, dense: bool) -> Result<Product, LowerError> {
        let (x, w, y) = (self.params(0)?, self.params(1)?, self.result()?);
        if w.scales().len() > 1 && w.axis() != out_axis {
            return Err(self.refuse("its weight has scales along another axis than its output"));
        }
        let factor = |w_scale: f32| match (w.scales().len(), dense) {
            // The product of two float32 first, as the reference kernel of dense layers has it.
            (1, true) => (x.scale(0) * w_scale) as f64 / y.scale(0) as f64,
            _ => x.scale(0) as f64 * w_scale as f64 / y.scale(0) as f64,
        };
        let (low, high) = self.ends(activation)?;
        Ok(Product {
            weight: self.step.inputs[1],
            bias: self.step.inputs[2],
            biases: self.int32s(2)?,
            in_zero: x.zero_point() as i32,
            out_zero: y.zero_point() as i32,
            multipliers: w.scales().iter().map(|&w| self.multiplier(factor(w))).collect::<Result<_, _>>()?,
            factors: w.scales().iter().map(|w| x.scale(0) * w / y.scale(0)).collect(),
            low,
            high,
        })
    }

    /// What a window slides over.
    pub fn geometry(&self, window: Window2d) -> Geometry {
        let (x, y) = (&self.input(0).shape, &self.output().shape);
        Geometry { input: [x[1], x[2]], in_channels: x[3], output: [y[1], y[2]], out_channels: y[3], window }
    }
}
