//! The integer reference: what every runtime of a program should answer.

use tch::Tensor;

use super::kernel::{Broadcast, Geometry, Kernel, Product};
use super::{LowerError, Program, kernels};

/// How sums become eight bits: two families of kernels that differ by one step now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// By a factor in float32, to the nearest: XNNPACK, which LiteRT takes on phones and servers.
    Float,
    /// By a 31-bit multiplier and a shift, rounded at each: TensorFlow Lite Micro, CMSIS-NN and the C source.
    Fixed,
}

/// Runs a program on one sample in integers. `inputs` in the program's order, each flat. Errors on a program that is not all integers.
pub fn run(program: &Program, inputs: &[Vec<i8>], rounding: Rounding) -> Result<Vec<Vec<i8>>, LowerError> {
    let kernels = kernels(program)?;
    let mut values: Vec<Vec<i8>> = program
        .tensors
        .iter()
        .map(|t| t.data.as_deref().filter(|_| t.element == super::Element::Int8).map_or(vec![], signed))
        .collect();
    for (&tensor, input) in program.inputs.iter().zip(inputs) {
        let (wanted, got) = (program.tensors[tensor].len(), input.len());
        if wanted != got {
            let reason = format!("takes {wanted} integers, {got} were given");
            return Err(LowerError::Value { value: program.tensors[tensor].name.clone(), reason });
        }
        values[tensor] = input.clone();
    }
    for (step, kernel) in program.steps.iter().zip(&kernels) {
        let mut out = vec![0i8; program.tensors[step.output].len()];
        let read: Vec<&[i8]> = step.inputs.iter().map(|&t| values[t].as_slice()).collect();
        apply(program, kernel, &read, &mut out, rounding);
        values[step.output] = out;
    }
    Ok(program.outputs.iter().map(|&t| values[t].clone()).collect())
}

/// A sample as a program's inputs take it: rounded to their grids, axes in their order. `sample` has one tensor an input, with a batch
/// of one. Errors on a program that reads floats.
pub fn integers(program: &Program, sample: &[Tensor]) -> Result<Vec<Vec<i8>>, LowerError> {
    let each = program.inputs.iter().zip(&program.input_orders).zip(sample).map(|((&tensor, order), x)| {
        let info = &program.tensors[tensor];
        let Some(q) = &info.quantization else {
            return Err(LowerError::Value { value: info.name.clone(), reason: "is float; quantize the model first".into() });
        };
        let ordered = x.f_permute(order.iter().map(|&a| a as i64).collect::<Vec<_>>())?;
        let values = sinter_model::to_f32s(&ordered)?;
        let round = |v: f32| ((v / q.scale(0)).round_ties_even() + q.zero_point() as f32).clamp(-128.0, 127.0) as i8;
        Ok(values.into_iter().map(round).collect())
    });
    each.collect()
}

fn signed(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|&b| b as i8).collect()
}

fn int32s(program: &Program, tensor: usize) -> Vec<i32> {
    let data = program.tensors[tensor].data.as_deref().unwrap_or_default();
    data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn apply(program: &Program, kernel: &Kernel, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding) {
    let x = inputs[0];
    match kernel {
        Kernel::Conv { geometry: g, groups, product } => {
            let (bias, w) = (int32s(program, product.bias), inputs[1]);
            let (each, per) = (g.in_channels / groups, g.out_channels / groups);
            let size = g.slide.kernel[0] * g.slide.kernel[1] * each;
            positions(g, |position, taps| {
                for channel in 0..g.out_channels {
                    let first = channel / per * each;
                    let mut sum = bias[channel as usize];
                    for &(place, tap) in taps {
                        for c in 0..each {
                            let v = x[(place * g.in_channels + first + c) as usize] as i32 - product.in_zero;
                            sum += v * w[(channel * size + tap * each + c) as usize] as i32;
                        }
                    }
                    out[(position * g.out_channels + channel) as usize] = product.round(sum, channel, rounding);
                }
            });
        }
        Kernel::DepthwiseConv { geometry: g, product } => {
            let (bias, w) = (int32s(program, product.bias), inputs[1]);
            let multiplier = g.out_channels / g.in_channels;
            positions(g, |position, taps| {
                for channel in 0..g.out_channels {
                    let mut sum = bias[channel as usize];
                    for &(place, tap) in taps {
                        let v = x[(place * g.in_channels + channel / multiplier) as usize] as i32 - product.in_zero;
                        sum += v * w[(tap * g.out_channels + channel) as usize] as i32;
                    }
                    out[(position * g.out_channels + channel) as usize] = product.round(sum, channel, rounding);
                }
            });
        }
        Kernel::Dense { rows, inputs: n, outputs, product } => {
            let (bias, w) = (int32s(program, product.bias), inputs[1]);
            for row in 0..*rows {
                for channel in 0..*outputs {
                    let terms = (0..*n)
                        .map(|i| (x[(row * n + i) as usize] as i32 - product.in_zero) * w[(channel * n + i) as usize] as i32);
                    out[(row * outputs + channel) as usize] =
                        product.round(bias[channel as usize] + terms.sum::<i32>(), channel, rounding);
                }
            }
        }
        Kernel::AveragePool { geometry: g } => positions(g, |position, taps| {
            for c in 0..g.out_channels {
                let sum: i32 = taps.iter().map(|&(place, _)| x[(place * g.in_channels + c) as usize] as i32).sum();
                let half = taps.len() as i32 / 2;
                let nudged = if sum > 0 { sum + half } else { sum - half };
                out[(position * g.out_channels + c) as usize] = (nudged / taps.len().max(1) as i32) as i8;
            }
        }),
        Kernel::MaxPool { geometry: g } => positions(g, |position, taps| {
            for c in 0..g.out_channels {
                let most = taps.iter().map(|&(place, _)| x[(place * g.in_channels + c) as usize]).max();
                out[(position * g.out_channels + c) as usize] = most.unwrap_or(i8::MIN);
            }
        }),
        Kernel::Mean { outer, count, inner, in_zero, out_zero, rescale } => {
            for o in 0..*outer {
                for i in 0..*inner {
                    let sum: i32 = (0..*count).map(|n| x[((o * count + n) * inner + i) as usize] as i32 - in_zero).sum();
                    out[(o * inner + i) as usize] = (rescale.apply(sum) + out_zero).clamp(-128, 127) as i8;
                }
            }
        }
        Kernel::Add { zeros, rescales, factors, subtract, out_zero, result, low, high, broadcast } => {
            let at = |v: i8, i: usize| rescales[i].apply((v as i32 - zeros[i]) << 20);
            let sign = if *subtract { -1 } else { 1 };
            // Both factors in 21 bits, so that one shift brings the sum down.
            let shift = 20 - factors[0].max(factors[1]).log2().floor() as i32;
            let multipliers = factors.map(|f| (f as f64 * 2f64.powi(shift)).round() as i64);
            spread(broadcast, |to, a, b| {
                let sum = match rounding {
                    Rounding::Fixed => result.apply(at(x[a], 0) + sign * at(inputs[1][b], 1)),
                    Rounding::Float => {
                        let terms = [x[a] as i64 - zeros[0] as i64, (inputs[1][b] as i64 - zeros[1] as i64) * sign as i64];
                        let sum = terms[0] * multipliers[0] + terms[1] * multipliers[1];
                        ((sum + (1 << (shift - 1))) >> shift) as i32
                    }
                };
                out[to] = (sum + out_zero).clamp(*low, *high) as i8;
            });
        }
        Kernel::Mul { zeros, out_zero, rescale, factor, low, high, broadcast } => spread(broadcast, |to, a, b| {
            let product = (x[a] as i32 - zeros[0]) * (inputs[1][b] as i32 - zeros[1]);
            let rounded = match rounding {
                Rounding::Fixed => rescale.apply(product),
                Rounding::Float => (product as f32 * factor).round_ties_even() as i32,
            };
            out[to] = (rounded + out_zero).clamp(*low, *high) as i8;
        }),
        Kernel::Concat { outer, lengths } => {
            let whole: i64 = lengths.iter().sum();
            let mut start = 0;
            for (part, &length) in inputs.iter().zip(lengths) {
                for o in 0..*outer {
                    let (to, from) = ((o * whole + start) as usize, (o * length) as usize);
                    out[to..to + length as usize].copy_from_slice(&part[from..from + length as usize]);
                }
                start += length;
            }
        }
        Kernel::Pad { shape, before, after, value } => {
            out.fill(*value);
            let wide: [i64; 4] = std::array::from_fn(|a| shape[a] + before[a] + after[a]);
            each(shape, |from, at| {
                let to = (0..4).fold(0, |to, a| to * wide[a] + at[a] + before[a]);
                out[to as usize] = x[from];
            });
        }
        Kernel::Alias => out.copy_from_slice(x),
        Kernel::Transpose { shape, order } => {
            let turned: [i64; 4] = std::array::from_fn(|a| shape[order[a]]);
            each(&turned, |to, at| {
                let mut from = [0; 4];
                (0..4).for_each(|a| from[order[a]] = at[a]);
                out[to] = x[(0..4).fold(0, |index, a| index * shape[a] + from[a]) as usize];
            });
        }
        Kernel::Softmax { rows, length, table } => {
            for row in 0..*rows {
                let from = (row * length) as usize..((row + 1) * length) as usize;
                let top = x[from.clone()].iter().copied().max().unwrap_or(0) as i32;
                let power = |v: i8| table[(top - v as i32) as usize] as u64;
                let sum: u64 = x[from.clone()].iter().map(|&v| power(v)).sum();
                for i in from {
                    let share = (power(x[i]) * 256 + sum / 2) / sum;
                    out[i] = (share as i32 - 128).min(127) as i8;
                }
            }
        }
        Kernel::Table { table } => {
            for (y, &v) in out.iter_mut().zip(x) {
                *y = table[(v as i32 + 128) as usize];
            }
        }
    }
}

impl Product {
    fn round(&self, sum: i32, channel: i64, rounding: Rounding) -> i8 {
        let at = channel as usize % self.rescale.len();
        let rounded = match rounding {
            Rounding::Fixed => self.rescale[at].apply(sum),
            Rounding::Float => (sum as f32 * self.factors[at]).round_ties_even() as i32,
        };
        rounded.saturating_add(self.out_zero).clamp(self.low, self.high) as i8
    }
}

/// Shows every output position with the input positions that its window sees, and which tap of the kernel sees each.
fn positions(g: &Geometry, mut visit: impl FnMut(i64, &[(i64, i64)])) {
    let Geometry { input, output, slide, .. } = g;
    let mut taps = Vec::new();
    for y in 0..output[0] {
        for x in 0..output[1] {
            taps.clear();
            for i in 0..slide.kernel[0] {
                for j in 0..slide.kernel[1] {
                    let row = y * slide.stride[0] + i * slide.dilation[0] - slide.begin[0];
                    let column = x * slide.stride[1] + j * slide.dilation[1] - slide.begin[1];
                    if (0..input[0]).contains(&row) && (0..input[1]).contains(&column) {
                        taps.push((row * input[1] + column, i * slide.kernel[1] + j));
                    }
                }
            }
            visit(y * output[1] + x, &taps);
        }
    }
}

/// Shows every index of four axes with its place.
fn each(shape: &[i64; 4], mut visit: impl FnMut(usize, [i64; 4])) {
    let mut place = 0;
    for a in 0..shape[0] {
        for b in 0..shape[1] {
            for c in 0..shape[2] {
                for d in 0..shape[3] {
                    visit(place, [a, b, c, d]);
                    place += 1;
                }
            }
        }
    }
}

/// Shows the places of the result and of both inputs.
fn spread(broadcast: &Broadcast, mut visit: impl FnMut(usize, usize, usize)) {
    each(&broadcast.shape, |to, at| {
        let place = |i: usize| (0..4).map(|a| at[a] * broadcast.steps[i][a]).sum::<i64>() as usize;
        visit(to, place(0), place(1));
    });
}
