//! What is stored, as tensors of a program: weights and biases in integers or float, and single constants.

use sinter_model::{Granularity, Half, Levels, Node, QuantParams, Quantizer, Weight, integer_bias, to_f32s, to_i64s};
use tch::{Kind, Tensor};

use super::{Lowering, Want, short};
use crate::device::error::LowerError;
use crate::device::layout::Layout;
use crate::device::tensor::{Element, TensorInfo};

impl Lowering<'_> {
    /// A stored tensor of the model as an input of an operator on values.
    pub fn constant(&mut self, name: &str, want: Want, layout: &Layout) -> Result<usize, LowerError> {
        let Some(weight) = self.model.weights.get(name) else {
            return Err(LowerError::Value { value: name.into(), reason: "is computed by no node".into() });
        };
        let value = float(weight)?;
        let value = match layout {
            Layout::Order(order) if order.len() == value.dim() => {
                value.f_permute(order.iter().map(|&a| a as i64).collect::<Vec<_>>())?.f_contiguous()?
            }
            _ => value,
        };
        self.literal(&value, want)
    }

    /// Adds a constant: float, or in 8 bits over its largest magnitude.
    pub fn literal(&mut self, value: &Tensor, want: Want) -> Result<usize, LowerError> {
        let shape = value.size();
        if want == Want::Float {
            return self.floats(value);
        }
        let most = value.f_abs()?.f_max()?.f_double_value(&[])? as f32;
        // A lone number is hit exactly.
        let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
        let params = QuantParams::of_tensor(8, Levels::Symmetric, scale, 0)?;
        let data = int8s(&Quantizer::new(&params)?.quantize(value)?)?;
        let quantization = Some(params.signed());
        Ok(self.tensor(TensorInfo { name: String::new(), shape, element: Element::Int8, quantization, data: Some(data) }))
    }

    fn floats(&mut self, value: &Tensor) -> Result<usize, LowerError> {
        let data = to_f32s(value)?.iter().flat_map(|v| v.to_le_bytes()).collect();
        let info = TensorInfo {
            name: String::new(),
            shape: value.size(),
            element: Element::Float32,
            quantization: None,
            data: Some(data),
        };
        Ok(self.tensor(info))
    }

    /// The quantizer of a layer's weight, if an integer kernel can multiply with it: zero point 0, one scale for all or for each index of
    /// `out_axis`.
    pub fn kernel_quantizer(&self, name: &str, out_axis: usize) -> Result<Option<Quantizer>, LowerError> {
        let Some(quantizer) = self.model.weights.get(name).and_then(Weight::quantizer) else { return Ok(None) };
        let fits = match quantizer.granularity() {
            Granularity::Tensor => true,
            Granularity::Channel(axis) => axis == out_axis,
            Granularity::Group { .. } => false,
        };
        let centred = quantizer.zero_points()?.iter().all(|&z| z == 0);
        Ok((fits && centred && quantizer.bits() <= 8).then(|| quantizer.copy()))
    }

    /// A layer's weight as an integer kernel multiplies with it, its axes put in `order`. Also gives its parameters.
    pub fn integer_weight(
        &mut self,
        name: &str,
        quantizer: &Quantizer,
        order: &[i64],
        columns: Option<&Tensor>,
    ) -> Result<(usize, QuantParams), LowerError> {
        let weight = self.model.weights.get(name).map(Weight::effective).transpose()?;
        let Some(value) = weight else { return Err(LowerError::Value { value: name.into(), reason: "is not stored".into() }) };
        let integers = quantizer.quantize(&value.f_detach()?)?.f_permute(order)?.f_contiguous()?;
        let integers = pick(&integers, columns)?;
        let params = quantizer.params()?;
        let axis = order.iter().position(|&a| a == params.axis() as i64).unwrap_or(0);
        let params = params.along(axis);
        let info = TensorInfo {
            name: short(name, "weight"),
            shape: integers.size(),
            element: Element::Int8,
            quantization: Some(params.signed()),
            data: Some(int8s(&integers)?),
        };
        Ok((self.tensor(info), params))
    }

    /// A layer's weight in float, its axes put in `order`; kept short where it is stored in 8 or 16 bits.
    pub fn float_weight(&mut self, name: &str, order: &[i64], columns: Option<&Tensor>) -> Result<usize, LowerError> {
        let Some(weight) = self.model.weights.get(name) else {
            return Err(LowerError::Value { value: name.into(), reason: "is not stored".into() });
        };
        if let Some(quantizer) =
            weight.quantizer().filter(|g| g.bits() <= 8 && !matches!(g.granularity(), Granularity::Group { .. }))
            && quantizer.zero_points()?.iter().all(|&z| z == 0)
        {
            let quantizer = quantizer.copy();
            let (integers, _) = self.integer_weight(name, &quantizer, order, columns)?;
            let info = TensorInfo { element: Element::Float32, quantization: None, ..self.like(integers) };
            return Ok(self.step((self.between.dequantize)(), vec![integers], info, name));
        }
        let value = pick(&float(weight)?.f_permute(order)?.f_contiguous()?, columns)?;
        if weight.half() == Some(Half::Float16) && weight.quantizer().is_none() {
            let bytes = sinter_model::to_bytes(&value.f_to_kind(Kind::Half)?)?;
            let info = TensorInfo {
                name: short(name, "weight"),
                shape: value.size(),
                element: Element::Float16,
                quantization: None,
                data: Some(bytes),
            };
            let half = self.tensor(info);
            let info = TensorInfo { element: Element::Float32, ..self.like(half) };
            return Ok(self.step((self.between.dequantize)(), vec![half], info, name));
        }
        self.floats(&value)
    }

    /// A bias as integer kernels add it: 32 bits at the product of the scales of input and weight, `n` of them; zeros where there is none.
    /// Errors on a bias that does not fit.
    pub fn integer_bias(&mut self, name: Option<&str>, n: usize, input: f32, weight: &QuantParams) -> Result<usize, LowerError> {
        let values = match name.and_then(|n| self.model.weights.get(n)) {
            Some(weight) => to_f32s(&float(weight)?)?,
            None => vec![],
        };
        let integers = integer_bias(&values, n, input, weight).map_err(|e| LowerError::Value {
            value: name.unwrap_or_default().to_string(),
            reason: format!("{e}; its layer's weights are next to nothing beside it"),
        })?;
        let tensor = self.int32s(&integers, &[n as i64]);
        let scales: Vec<f32> = weight.scales().iter().map(|s| (input as f64 * *s as f64) as f32).collect();
        let granularity = if scales.len() == 1 { Granularity::Tensor } else { Granularity::Channel(0) };
        let zero_points = vec![0; scales.len()];
        self.program.tensors[tensor].quantization =
            Some(QuantParams::new(32, Levels::Symmetric, granularity, scales, zero_points)?);
        Ok(tensor)
    }

    /// A bias in float; zeros where there is none.
    pub fn float_bias(&mut self, name: Option<&str>, n: usize) -> Result<usize, LowerError> {
        let value = match name.and_then(|n| self.model.weights.get(n)) {
            Some(weight) => float(weight)?.f_reshape([-1])?.f_expand([n as i64], false)?,
            None => Tensor::f_zeros([n as i64], (Kind::Float, tch::Device::Cpu))?,
        };
        self.floats(&value)
    }

    /// The integers of a stored tensor such as a list of axes; `None` for what a node computes.
    pub fn stored_ints(&self, node: &Node, input: usize) -> Result<Option<Vec<i64>>, LowerError> {
        match node.inputs.get(input).and_then(|name| self.model.weights.get(name)) {
            Some(weight) => Ok(Some(to_i64s(weight.latent())?)),
            None => Ok(None),
        }
    }
}

/// A weight's effective values in float32.
pub(crate) fn float(weight: &Weight) -> Result<Tensor, LowerError> {
    Ok(weight.effective()?.f_detach()?.f_to_kind(Kind::Float)?)
}

/// The columns of a matrix in another order.
fn pick(matrix: &Tensor, columns: Option<&Tensor>) -> Result<Tensor, LowerError> {
    match columns {
        Some(columns) => Ok(matrix.f_index_select(1, columns)?.f_contiguous()?),
        None => Ok(matrix.shallow_clone()),
    }
}

fn int8s(integers: &Tensor) -> Result<Vec<u8>, LowerError> {
    Ok(sinter_model::to_bytes(&integers.f_to_kind(Kind::Int8)?)?)
}
