//! Steps in integers: every number that a kernel needs, worked out once. Sums are rescaled as TensorFlow Lite Micro's reference kernels do
//! (Jacob et al., 2018, section 2.2): by a 31-bit multiplier and a shift, each with a rounding of its own.

use super::{Activation, Element, LowerError, Op, Program, Quantization, Slide, Step, TensorInfo};

/// A factor as `multiplier * 2^(shift - 31)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescale {
    pub multiplier: i32,
    pub shift: i32,
}

impl Rescale {
    /// The nearest to a factor of zero or more.
    pub fn new(factor: f64) -> Self {
        if factor <= 0.0 || !factor.is_finite() {
            return Self { multiplier: 0, shift: 0 };
        }
        let mut shift = factor.log2().floor() as i32 + 1;
        let mut multiplier = (factor * 2f64.powi(31 - shift)).round() as i64;
        if multiplier == 1 << 31 {
            multiplier /= 2;
            shift += 1;
        }
        // Beyond 31 places nothing is left.
        if shift < -31 { Self { multiplier: 0, shift: 0 } } else { Self { multiplier: multiplier as i32, shift } }
    }

    /// `x` times the factor.
    pub fn apply(self, x: i32) -> i32 {
        let wide = (x as i64) << self.shift.max(0);
        let wide = wide.clamp(i32::MIN as i64, i32::MAX as i64) * self.multiplier as i64;
        let nudge = if wide >= 0 { 1 << 30 } else { 1 - (1 << 30) };
        let high = ((wide + nudge) / (1 << 31)) as i32;
        let right = (-self.shift).max(0);
        let mask = ((1i64 << right) - 1) as i32;
        let threshold = (mask >> 1) + i32::from(high < 0);
        (high >> right) + i32::from((high & mask) > threshold)
    }
}

/// What a convolution or a pool slides over: lengths as height and width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    pub input: [i64; 2],
    pub in_channels: i64,
    pub output: [i64; 2],
    pub out_channels: i64,
    pub slide: Slide,
}

/// Sums of products and how they become eight bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Tensors of the weight and the bias.
    pub weight: usize,
    pub bias: usize,
    pub in_zero: i32,
    pub out_zero: i32,
    /// One for all, or one an output channel.
    pub rescale: Vec<Rescale>,
    /// The same factors in float32, as kernels multiply that have a float unit.
    pub factors: Vec<f32>,
    pub low: i32,
    pub high: i32,
}

/// One step on eight-bit tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Kernel {
    /// Weight `[out, height, width, in / groups]`.
    Conv {
        geometry: Geometry,
        groups: i64,
        product: Product,
    },
    /// Weight `[1, height, width, out]`.
    DepthwiseConv {
        geometry: Geometry,
        product: Product,
    },
    /// Weight `[out, in]`.
    Dense {
        rows: i64,
        inputs: i64,
        outputs: i64,
        product: Product,
    },
    /// Windows lie on the input alone: padding does not count.
    AveragePool {
        geometry: Geometry,
    },
    MaxPool {
        geometry: Geometry,
    },
    /// Means of `[outer, count, inner]` over the middle.
    Mean {
        outer: i64,
        count: i64,
        inner: i64,
        in_zero: i32,
        out_zero: i32,
        rescale: Rescale,
    },
    /// Both are brought to a common scale first, twenty bits up; `subtract` turns the second's sign.
    Add {
        zeros: [i32; 2],
        rescales: [Rescale; 2],
        factors: [f32; 2],
        subtract: bool,
        out_zero: i32,
        result: Rescale,
        low: i32,
        high: i32,
        broadcast: Broadcast,
    },
    Mul {
        zeros: [i32; 2],
        out_zero: i32,
        rescale: Rescale,
        factor: f32,
        low: i32,
        high: i32,
        broadcast: Broadcast,
    },
    /// Parts of `[outer, length]` side by side: the length of each input's.
    Concat {
        outer: i64,
        lengths: Vec<i64>,
    },
    /// Four axes at most, in front filled up with 1: lengths before, and pads before and after each.
    Pad {
        shape: [i64; 4],
        before: [i64; 4],
        after: [i64; 4],
        value: i8,
    },
    /// The result is the input.
    Alias,
    /// Four axes at most: lengths before, and which axis comes at each place.
    Transpose {
        shape: [i64; 4],
        order: [usize; 4],
    },
    /// Over rows; `table[d]` is `exp(-d * scale)` in 23 bits.
    Softmax {
        rows: i64,
        length: i64,
        table: Vec<u32>,
    },
    /// `table[x + 128]` for each element.
    Table {
        table: Vec<i8>,
    },
}

/// How two inputs meet, over four axes: the lengths of the result, and the step along each axis in either input (0 where it repeats).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    pub shape: [i64; 4],
    pub steps: [[i64; 4]; 2],
}

/// The kernels of a program, one a step. Errors on a step that is not in integers, with its node.
pub fn kernels(program: &Program) -> Result<Vec<Kernel>, LowerError> {
    program.steps.iter().map(|step| kernel(program, step)).collect()
}

fn kernel(program: &Program, step: &Step) -> Result<Kernel, LowerError> {
    let of = |i: usize| &program.tensors[step.inputs[i]];
    let refuse = |reason: &str| LowerError::Node {
        node: step.node.clone(),
        kind: format!("{:?}", step.op).split([' ', '(']).next().unwrap_or_default().to_string(),
        reason: reason.to_string(),
    };
    let float =
        || refuse("is computed in float, and the C source has integer kernels: quantize for a target with `rules: tflite`");
    let output = &program.tensors[step.output];
    let (Some(x), Some(y)) = (integers(of(0)), integers(output)) else { return Err(float()) };
    let (zero_in, zero_out) = (x.zero_point(), y.zero_point());
    let ends = |activation: Activation| {
        let (low, high) = activation.range();
        let at = |v: f32| if v.is_finite() { zero_out as f64 + (v / y.scale(0)).round() as f64 } else { v as f64 };
        (at(low).max(-128.0) as i32, at(high).min(127.0) as i32)
    };
    let product = |activation: Activation, out_axis: usize| -> Result<Product, LowerError> {
        let w = integers(of(1)).ok_or_else(float)?;
        let each = |i: usize| match w.scales.len() {
            // The product of two float32 first, as the reference kernel of dense layers has it.
            1 if matches!(step.op, Op::FullyConnected { .. }) => (x.scale(0) * w.scale(i)) as f64 / y.scale(0) as f64,
            _ => x.scale(0) as f64 * w.scale(i) as f64 / y.scale(0) as f64,
        };
        if w.scales.len() > 1 && w.axis != out_axis {
            return Err(refuse("its weight has scales along another axis than its output"));
        }
        let (low, high) = ends(activation);
        let rescale = (0..w.scales.len()).map(|i| Rescale::new(each(i))).collect();
        let factors = w.scales.iter().map(|w| x.scale(0) * w / y.scale(0)).collect();
        Ok(Product {
            weight: step.inputs[1],
            bias: step.inputs[2],
            in_zero: zero_in,
            out_zero: zero_out,
            rescale,
            factors,
            low,
            high,
        })
    };
    let geometry = |slide: &Slide| Geometry {
        input: [of(0).shape[1], of(0).shape[2]],
        in_channels: of(0).shape[3],
        output: [output.shape[1], output.shape[2]],
        out_channels: output.shape[3],
        slide: *slide,
    };
    let table = |f: &dyn Fn(f64) -> f64| {
        let each = (-128..128).map(|q| {
            let value = f((q - zero_in) as f64 * x.scale(0) as f64);
            ((value / y.scale(0) as f64).round() + zero_out as f64).clamp(-128.0, 127.0) as i8
        });
        Kernel::Table { table: each.collect() }
    };
    let rescaled = |low: i32, high: i32| {
        let rescale = Rescale::new(x.scale(0) as f64 / y.scale(0) as f64);
        let each = (-128..128).map(|q| (rescale.apply(q - zero_in) + zero_out).clamp(low, high) as i8);
        Kernel::Table { table: each.collect() }
    };
    Ok(match &step.op {
        Op::Conv { slide, activation } => {
            let groups = of(0).shape[3] / of(1).shape[3].max(1);
            Kernel::Conv { geometry: geometry(slide), groups, product: product(*activation, 0)? }
        }
        Op::DepthwiseConv { slide, activation, .. } => {
            Kernel::DepthwiseConv { geometry: geometry(slide), product: product(*activation, 3)? }
        }
        Op::FullyConnected { activation } => {
            let (outputs, inputs) = (of(1).shape[0], of(1).shape[1]);
            let rows = of(0).len() as i64 / inputs.max(1);
            Kernel::Dense { rows, inputs, outputs, product: product(*activation, 0)? }
        }
        Op::AveragePool { slide } => Kernel::AveragePool { geometry: geometry(slide) },
        Op::MaxPool { slide } => Kernel::MaxPool { geometry: geometry(slide) },
        Op::Mean { .. } => {
            let axes = ints(of(1)).ok_or_else(float)?;
            let shape = &of(0).shape;
            let (first, last) =
                (axes.iter().copied().min().unwrap_or(0) as usize, axes.iter().copied().max().unwrap_or(0) as usize);
            if last - first + 1 != axes.len() {
                return Err(refuse("takes the mean over axes that are not neighbours"));
            }
            let count: i64 = shape[first..=last].iter().product();
            Kernel::Mean {
                outer: shape[..first].iter().product(),
                count,
                inner: shape[last + 1..].iter().product(),
                in_zero: zero_in,
                out_zero: zero_out,
                rescale: Rescale::new(x.scale(0) as f64 / (y.scale(0) as f64 * count as f64)),
            }
        }
        Op::Add { activation } | Op::Sub { activation } => {
            let b = integers(of(1)).ok_or_else(float)?;
            let twice = 2.0 * x.scale(0).max(b.scale(0)) as f64;
            let (low, high) = ends(*activation);
            Kernel::Add {
                zeros: [zero_in, b.zero_point()],
                rescales: [x, b].map(|q| Rescale::new(q.scale(0) as f64 / twice)),
                factors: [x, b].map(|q| q.scale(0) / y.scale(0)),
                subtract: matches!(step.op, Op::Sub { .. }),
                out_zero: zero_out,
                result: Rescale::new(twice / ((1u32 << 20) as f64 * y.scale(0) as f64)),
                low,
                high,
                broadcast: broadcast(of(0), of(1), output).ok_or_else(|| refuse("has more than four axes"))?,
            }
        }
        Op::Mul { activation } => {
            let b = integers(of(1)).ok_or_else(float)?;
            let (low, high) = ends(*activation);
            Kernel::Mul {
                zeros: [zero_in, b.zero_point()],
                out_zero: zero_out,
                rescale: Rescale::new(x.scale(0) as f64 * b.scale(0) as f64 / y.scale(0) as f64),
                factor: x.scale(0) * b.scale(0) / y.scale(0),
                low,
                high,
                broadcast: broadcast(of(0), of(1), output).ok_or_else(|| refuse("has more than four axes"))?,
            }
        }
        Op::Concat { axis } => Kernel::Concat {
            outer: output.shape[..*axis].iter().product(),
            lengths: step.inputs.iter().map(|&t| program.tensors[t].shape[*axis..].iter().product()).collect(),
        },
        Op::Pad => {
            let pads = ints(of(1)).ok_or_else(float)?;
            let rank = of(0).shape.len();
            let shape = four(&of(0).shape, 1).ok_or_else(|| refuse("has more than four axes"))?;
            let side = |end: usize| four(&(0..rank).map(|a| pads[2 * a + end] as i64).collect::<Vec<_>>(), 0).unwrap_or_default();
            let value = match step.inputs.get(2).and_then(|&t| program.tensors[t].data.as_ref()).and_then(|d| d.first()) {
                Some(&byte) => byte as i8,
                None => zero_in as i8,
            };
            Kernel::Pad { shape, before: side(0), after: side(1), value }
        }
        Op::Reshape { .. } => Kernel::Alias,
        Op::Transpose { order } => {
            let shape = four(&of(0).shape, 1).ok_or_else(|| refuse("has more than four axes"))?;
            let more = 4 - order.len();
            let order = std::array::from_fn(|i| if i < more { i } else { order[i - more] + more });
            Kernel::Transpose { shape, order }
        }
        Op::Softmax => {
            let length = of(0).shape.last().copied().unwrap_or(1);
            let each = (0..256).map(|d| ((-d as f64 * x.scale(0) as f64).exp() * (1u32 << 23) as f64).round() as u32);
            Kernel::Softmax { rows: of(0).len() as i64 / length.max(1), length, table: each.collect() }
        }
        Op::Sigmoid => table(&|v| 1.0 / (1.0 + (-v).exp())),
        Op::Tanh => table(&f64::tanh),
        Op::HardSwish => table(&|v| v * (v + 3.0).clamp(0.0, 6.0) / 6.0),
        Op::LeakyRelu { slope } => table(&|v| if v < 0.0 { v * *slope as f64 } else { v }),
        Op::Relu(activation) => {
            let (low, high) = ends(*activation);
            rescaled(low, high)
        }
        Op::Quantize => rescaled(-128, 127),
        Op::Dequantize => return Err(float()),
    })
}

/// The quantization of an eight-bit tensor.
fn integers(info: &TensorInfo) -> Option<&Quantization> {
    info.quantization.as_ref().filter(|_| info.element == Element::Int8)
}

/// The elements of a constant of 32-bit integers.
fn ints(info: &TensorInfo) -> Option<Vec<i32>> {
    let data = info.data.as_ref().filter(|_| info.element == Element::Int32)?;
    Some(data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// Four lengths, in front filled up; `None` for more axes.
fn four(values: &[i64], fill: i64) -> Option<[i64; 4]> {
    let more = 4usize.checked_sub(values.len())?;
    Some(std::array::from_fn(|i| if i < more { fill } else { values[i - more] }))
}

fn broadcast(a: &TensorInfo, b: &TensorInfo, y: &TensorInfo) -> Option<Broadcast> {
    let shape = four(&y.shape, 1)?;
    let steps = |t: &TensorInfo| {
        let lengths = four(&t.shape, 1)?;
        let mut steps = [0; 4];
        let mut step = 1;
        for axis in (0..4).rev() {
            steps[axis] = if lengths[axis] == 1 { 0 } else { step };
            step *= lengths[axis];
        }
        Some(steps)
    };
    Some(Broadcast { shape, steps: [steps(a)?, steps(b)?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_hit() {
        for factor in [1e-6, 0.0123, 0.25, 0.5, 0.999_999_999_9, 1.0, 1.5, 3.0, 700.0] {
            let rescale = Rescale::new(factor);
            for x in [-90_000, -7, -1, 0, 1, 5, 1234, 90_000] {
                let exact = x as f64 * factor;
                // Rounded twice: a quarter may become a half, and that a whole.
                assert!((rescale.apply(x) as f64 - exact).abs() <= 0.75 + 1e-3, "{x} * {factor} = {}", rescale.apply(x));
            }
        }
        assert_eq!(Rescale::new(0.0).apply(1 << 30), 0);
    }

    #[test]
    fn halves_go_up() {
        let half = Rescale::new(0.5);
        assert_eq!([1, 3, -1, -3].map(|x| half.apply(x)), [1, 2, 0, -1]);
    }
}
