//! Results of integers as kernels round them.
//!
//! A layer whose input, weight, bias and output are on quantizers is computed in float, where sums of many terms are a little off. Integer
//! kernels sum exactly and multiply the sum once, by `input scale × weight scale / output scale`. Where that lies next to a half the two
//! round apart, and in a deep model one such step moves many others: so the sum is taken back to the integer that it stands for. Sums of
//! two values lie on halves often; they are rounded in the order of ONNX Runtime's kernel, in float32 with fused steps.

use sinter_model::{Granularity, IntegerKernel, Levels, Model, Node, OpResult, Quantizer};
use tch::{Kind, Tensor};

/// How a node's result becomes a multiple of its output's scale.
#[derive(Debug)]
pub(crate) enum Requantize {
    Product {
        /// The value of one unit of the sum, for each output channel.
        unit: Tensor,
        /// What a kernel multiplies the sum by.
        ratio: Tensor,
        /// The scale of the output.
        scale: f64,
    },
    Sum {
        terms: [Term; 2],
        scale: f32,
        zero_point: f32,
    },
}

/// One of two values that are added.
#[derive(Debug)]
pub(crate) struct Term {
    scale: f64,
    zero_point: f32,
    /// Its scale over that of the result.
    ratio: f32,
}

impl Requantize {
    /// How the result of a node is rounded; `None` where no integer kernel computes it.
    pub fn of(model: &Model, node: &Node) -> OpResult<Option<Self>> {
        match node.op.integer_kernel() {
            _ if node.in_float => Ok(None),
            Some(IntegerKernel::Sum) => Self::sum(model, node),
            Some(IntegerKernel::Product { out_axis, convolution }) => Self::product(model, node, out_axis, convolution),
            None => Ok(None),
        }
    }

    fn sum(model: &Model, node: &Node) -> OpResult<Option<Self>> {
        let quantizer = |name: &String| model.activations.get(name).filter(|g| fixed(g));
        let quantizers =
            (node.inputs.first().and_then(quantizer), node.inputs.get(1).and_then(quantizer), output_quantizer(model, node));
        let (Some(a), Some(b), Some(output)) = quantizers else { return Ok(None) };
        if !fixed(output) {
            return Ok(None);
        }
        let of = |g: &Quantizer| Ok::<_, sinter_model::OpError>((g.scales()?[0], g.zero_points()?[0] as f32));
        let (scale, zero_point) = of(output)?;
        let term = |g: &Quantizer| of(g).map(|(s, zero_point)| Term { scale: s as f64, zero_point, ratio: s / scale });
        Ok(Some(Self::Sum { terms: [term(a)?, term(b)?], scale, zero_point }))
    }

    fn product(model: &Model, node: &Node, out_axis: usize, convolution: bool) -> OpResult<Option<Self>> {
        let quantizer_of = |i: usize| node.inputs.get(i).and_then(|n| model.weights.get(n)).and_then(|w| w.quantizer());
        let input = model.integers_read(node).filter(|g| fixed(g));
        let weight = quantizer_of(1).filter(|g| fixed(g)).filter(|g| g.levels() != Levels::Unsigned);
        let (Some(input), Some(weight), Some(output)) = (input, weight, output_quantizer(model, node).filter(|g| fixed(g)))
        else {
            return Ok(None);
        };
        let plain_bias = node.inputs.get(2).is_some_and(|b| !b.is_empty()) && quantizer_of(2).is_none_or(|g| g.bits() != 32);
        let fits = matches!(weight.granularity(), Granularity::Tensor) || weight.granularity() == Granularity::Channel(out_axis);
        if plain_bias || !fits {
            return Ok(None);
        }
        let scales = Tensor::f_from_slice(&weight.scales()?)?;
        let scales = match (convolution, node.inputs.get(1).and_then(|n| model.weights.get(n))) {
            (true, Some(w)) => scales.f_reshape([vec![-1], vec![1; w.size().len().saturating_sub(2)]].concat())?,
            _ => scales,
        };
        let scale = output.scales()?[0];
        let unit = scales.f_mul_scalar(input.scales()?[0] as f64)?;
        let ratio = unit.f_div_scalar(scale as f64)?;
        Ok(Some(Self::Product { unit, ratio, scale: scale as f64 }))
    }

    /// The result as a kernel would leave it, before the ends of the range; `value` is that in float, `inputs` what the node read.
    pub fn apply(&self, value: &Tensor, inputs: &[Option<Tensor>]) -> OpResult<Tensor> {
        let (terms, scale, zero_point) = match self {
            Self::Product { unit, ratio, scale } => {
                let sum = value.f_to_kind(Kind::Float)?.f_div(unit)?.f_round()?;
                return Ok(sum.f_mul(ratio)?.f_round()?.f_mul_scalar(*scale)?);
            }
            Self::Sum { terms, scale, zero_point } => (terms, *scale, *zero_point),
        };
        let [Some(a), Some(b)] = inputs else { return Ok(value.shallow_clone()) };
        let fixed = zero_point - (terms[0].ratio * terms[0].zero_point + terms[1].ratio * terms[1].zero_point);
        // A product and a sum with one rounding: float64 holds both exactly.
        let step = |x: &Tensor, term: &Term, sum: &Tensor| -> OpResult<Tensor> {
            let integers =
                x.f_to_kind(Kind::Double)?.f_div_scalar(term.scale)?.f_round()?.f_add_scalar(term.zero_point as f64)?;
            let exact = integers.f_mul_scalar(term.ratio as f64)?.f_add(&sum.f_to_kind(Kind::Double)?)?;
            Ok(exact.f_to_kind(Kind::Float)?)
        };
        let sum = step(a, &terms[0], &step(b, &terms[1], &Tensor::from(fixed))?)?;
        Ok(sum.f_round()?.f_sub_scalar(zero_point as f64)?.f_mul_scalar(scale as f64)?)
    }
}

/// Whether a quantizer's integers have at most eight bits and a scale that does not move.
fn fixed(quantizer: &Quantizer) -> bool {
    quantizer.leaf().is_none() && quantizer.bits() <= 8
}

/// The quantizer of a node's result, or of the ReLU or Clip that runs as one with it.
fn output_quantizer<'a>(model: &'a Model, node: &Node) -> Option<&'a Quantizer> {
    let output = node.outputs.first()?;
    if let Some(quantizer) = model.activations.get(output) {
        return Some(quantizer);
    }
    let mut readers = model.graph.nodes.iter().filter(|n| n.inputs.contains(output));
    match (readers.next(), readers.next()) {
        (Some(only), None) if only.op.quantization().fuses && !model.graph.is_output(output) => {
            model.activations.get(only.outputs.first()?)
        }
        _ => None,
    }
}
