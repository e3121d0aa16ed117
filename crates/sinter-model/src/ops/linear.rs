//! Matrix products.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::own;
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::{IntegerKernel, OutputScale, Quantization};
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator, WeightSlot};

pub(super) const KINDS: &[&str] = &["Einsum", "Gemm", "MatMul", "MatMulInteger"];

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    Ok(Some(match kind {
        "Gemm" => Arc::new(Gemm {
            alpha: attributes.get_float("alpha", 1.0)?,
            beta: attributes.get_float("beta", 1.0)?,
            transpose_a: attributes.get_flag("transA", false)?,
            transpose_b: attributes.get_flag("transB", false)?,
        }),
        "Einsum" => Arc::new(Einsum { equation: attributes.get_str("equation", "")?.replace(' ', "") }),
        "MatMulInteger" => Arc::new(MatMulInteger),
        _ => Arc::new(MatMul { transpose_b: attributes.get_flag("transB", false)? }),
    }))
}

/// y = alpha * op(a) @ op(b) + beta * c, on matrices.
#[derive(Debug)]
struct Gemm {
    alpha: f64,
    beta: f64,
    transpose_a: bool,
    transpose_b: bool,
}

impl Gemm {
    /// Whether nothing is multiplied but the matrices.
    fn is_plain(&self) -> bool {
        self.alpha == 1.0 && self.beta == 1.0
    }
}

impl Operator for Gemm {
    fn kind(&self) -> &'static str {
        "Gemm"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let flip = |t: &Tensor, yes: bool| if yes { t.f_tr() } else { Ok(t.shallow_clone()) };
        let (a, b) = (flip(inputs.get(0)?, self.transpose_a)?, flip(inputs.get(1)?, self.transpose_b)?);
        let c = inputs.opt(2);
        if let (Some(c), true) = (c, self.alpha == 1.0 && self.beta == 1.0 && a.is_floating_point()) {
            return Ok(vec![c.f_addmm(&a, &b)?]);
        }
        let mut y = a.f_matmul(&b)?;
        if self.alpha != 1.0 {
            y = y.f_mul_scalar(self.alpha)?;
        }
        if let Some(c) = c {
            y = y.f_add(&if self.beta == 1.0 { c.shallow_clone() } else { c.f_mul_scalar(self.beta)? })?;
        }
        Ok(vec![y])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        let inner = shapes.inputs.first().and_then(|s| s.as_ref()).map_or(0, |s| s[!self.transpose_a as usize] as u64);
        Cost { macs: shapes.output_len(0) * inner, other: 0 }
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (ta, tb) = (self.transpose_a as usize, self.transpose_b as usize);
        links.same((Slot::In(0), ta), (Slot::Out(0), 0));
        links.same((Slot::In(0), 1 - ta), (Slot::In(1), tb));
        links.same((Slot::In(1), 1 - tb), (Slot::Out(0), 1));
        links.broadcast(2);
    }

    fn weights(&self, _shapes: &IoShapes) -> Vec<WeightSlot> {
        let out_axis = !self.transpose_b as usize;
        vec![WeightSlot { input: 1, bias: Some(2), out_axis, in_axis: 1 - out_axis }]
    }

    fn columns(&self, inputs: &Inputs) -> OpResult<Option<Tensor>> {
        let a = inputs.get(0)?;
        Ok(Some(if self.transpose_a { a.f_tr()? } else { a.shallow_clone() }))
    }

    fn quantization(&self) -> Quantization {
        Quantization { float_result: true, ..Quantization::INTEGERS }
    }

    fn integer_kernel(&self) -> Option<IntegerKernel> {
        let out_axis = !self.transpose_b as usize;
        (self.is_plain() && !self.transpose_a).then_some(IntegerKernel::Product { out_axis, convolution: false })
    }

    fn takes_batch_norm(&self) -> bool {
        self.beta == 1.0
    }

    fn channel_axis(&self, rank: usize) -> Option<usize> {
        rank.checked_sub(1)
    }

    fn reader_axis(&self, _weight: &[i64]) -> Option<usize> {
        (!self.transpose_a).then_some(self.transpose_b as usize)
    }

    fn output_scale(&self) -> Option<OutputScale> {
        self.is_plain().then_some(OutputScale { weight: (1, !self.transpose_b as usize), bias: 2, normalised: false })
    }

    fn mean_shift(&self, change: &Tensor, mean: &Tensor) -> OpResult<Option<Tensor>> {
        matrix_shift(change, mean, !self.transpose_b)
    }
}

/// NumPy's matmul: stacks of matrices with broadcasting. With `transB`, which ONNX has no attribute for, the second is transposed first: then
/// one stored matrix serves two layers that read it either way.
#[derive(Debug)]
struct MatMul {
    transpose_b: bool,
}

impl MatMul {
    /// The axis of output channels of a matrix as second input.
    fn out_axis(&self) -> usize {
        usize::from(!self.transpose_b)
    }
}

impl Operator for MatMul {
    fn kind(&self) -> &'static str {
        "MatMul"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        Ok(vec![if self.transpose_b { a.f_matmul(&b.f_transpose(-2, -1)?)? } else { a.f_matmul(b)? }])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        let inner = shapes.inputs.first().and_then(|s| s.as_ref()).and_then(|s| s.last()).map_or(0, |&n| n as u64);
        Cost { macs: shapes.output_len(0) * inner, other: 0 }
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        let (a, b) = (inputs.get(0)?.size(), inputs.get(1)?.size());
        let rank = a.len().max(b.len());
        let mut shape = vec![1i64; rank];
        for size in [&a, &b] {
            let skip = rank - size.len();
            shape[skip..].iter_mut().zip(size).for_each(|(all, n)| *all = (*all).max(*n));
        }
        if let (true, [.., rows, _], [.., inner, columns]) = (rank >= 2, &a[..], &b[..]) {
            shape[rank - 2..].copy_from_slice(&[*rows, if self.transpose_b { *inner } else { *columns }]);
        }
        Ok(Some(shape))
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (a, b, y) = (Slot::In(0), Slot::In(1), Slot::Out(0));
        let (ra, rb, ry) = (links.shape(a).len(), links.shape(b).len(), links.shape(y).len());
        if ra < 2 || rb < 2 {
            links.fix_all();
            return;
        }
        let (inner, outer) = if self.transpose_b { (rb - 1, rb - 2) } else { (rb - 2, rb - 1) };
        links.same((a, ra - 1), (b, inner));
        links.same((a, ra - 2), (y, ry - 2));
        links.same((b, outer), (y, ry - 1));
        for (slot, rank) in [(a, ra), (b, rb)] {
            for i in 0..rank - 2 {
                let o = i + ry - rank;
                if links.shape(slot)[i] == links.shape(y)[o] {
                    links.same((slot, i), (y, o));
                }
            }
        }
    }

    fn weights(&self, shapes: &IoShapes) -> Vec<WeightSlot> {
        let out_axis = self.out_axis();
        match shapes.inputs.get(1) {
            Some(Some(shape)) if shape.len() == 2 => {
                vec![WeightSlot { input: 1, bias: None, out_axis, in_axis: 1 - out_axis }]
            }
            _ => Vec::new(),
        }
    }

    fn columns(&self, inputs: &Inputs) -> OpResult<Option<Tensor>> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        Ok(if b.dim() == 2 { Some(a.f_reshape([-1, b.size()[1 - self.out_axis()]])?) } else { None })
    }

    fn quantization(&self) -> Quantization {
        Quantization { float_result: true, ..Quantization::INTEGERS }
    }

    fn integer_kernel(&self) -> Option<IntegerKernel> {
        Some(IntegerKernel::Product { out_axis: self.out_axis(), convolution: false })
    }

    fn with_bias(&self) -> Option<&'static str> {
        Some("Gemm")
    }

    fn channel_axis(&self, rank: usize) -> Option<usize> {
        rank.checked_sub(1)
    }

    fn reader_axis(&self, _weight: &[i64]) -> Option<usize> {
        Some(1 - self.out_axis())
    }

    fn output_scale(&self) -> Option<OutputScale> {
        Some(OutputScale { weight: (1, self.out_axis()), bias: 2, normalised: false })
    }

    fn mean_shift(&self, change: &Tensor, mean: &Tensor) -> OpResult<Option<Tensor>> {
        matrix_shift(change, mean, !self.transpose_b)
    }
}

/// The change of a matrix times the mean of what it multiplies.
fn matrix_shift(change: &Tensor, mean: &Tensor, inputs_first: bool) -> OpResult<Option<Tensor>> {
    if change.dim() != 2 || change.size()[!inputs_first as usize] != mean.numel() as i64 {
        return Ok(None);
    }
    let rows = if inputs_first { change.f_tr()?.f_contiguous()? } else { change.shallow_clone() };
    Ok(Some(rows.f_matmul(mean)?))
}

/// A product of integer matrices less their zero points, summed in 32 bits.
#[derive(Debug)]
struct MatMulInteger;

impl Operator for MatMulInteger {
    fn kind(&self) -> &'static str {
        "MatMulInteger"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let column = |z: &Tensor| if z.dim() == 1 && z.numel() > 1 { z.f_unsqueeze(-1) } else { Ok(z.shallow_clone()) };
        let a = centred(a, inputs.opt(2).map(column).transpose()?.as_ref())?;
        let b = centred(b, inputs.opt(3))?;
        Ok(vec![a.f_matmul(&b)?.f_to_kind(Kind::Int)?])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        MatMul { transpose_b: false }.cost(shapes)
    }
}

/// Integers less their zero point, in float64, where sums below 2^53 are exact.
pub(super) fn centred(x: &Tensor, zero_point: Option<&Tensor>) -> OpResult<Tensor> {
    let wide = x.f_to_kind(Kind::Double)?;
    Ok(match zero_point {
        Some(z) => wide.f_sub(&z.f_to_kind(Kind::Double)?)?,
        None => wide,
    })
}

/// A sum of products in index notation.
#[derive(Debug)]
struct Einsum {
    equation: String,
}

impl Operator for Einsum {
    fn kind(&self) -> &'static str {
        "Einsum"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let tensors: Vec<&Tensor> = inputs.present().collect();
        if self.equation.is_empty() {
            invalid!("the equation is empty");
        }
        Ok(vec![Tensor::f_einsum(&self.equation, &tensors, None::<&[i64]>)?])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        // Every combination of the distinct indices is one multiply-accumulate.
        let mut lengths = std::collections::BTreeMap::new();
        let terms = self.equation.split("->").next().unwrap_or("");
        for (term, shape) in terms.split(',').zip(&shapes.inputs) {
            for (letter, &n) in term.chars().zip(shape.iter().flatten()) {
                lengths.insert(letter, n.max(1) as u64);
            }
        }
        Cost { macs: lengths.values().product(), other: 0 }
    }
}
