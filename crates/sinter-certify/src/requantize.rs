//! How sums become eight bits: four ways that kernels have, and the sums at which they differ, every one of them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sinter_model::{Model, Multiplier, Node, Quantizer};

use crate::error::CertifyError;
use crate::integers::{Integers, ends};

/// How the sums of a layer become eight bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requantization {
    /// Whether every factor has a multiplier of 31 bits and a shift.
    pub representable: bool,
    /// Sums of all channels between their ends; a sum counts once a channel.
    pub sums: u64,
    /// At how many of them TensorFlow Lite Micro (and our reference and C) and each of the others differ, and by how many steps at most.
    pub differ: Vec<Differs>,
}

/// Where another kernel rounds otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// Whose.
    pub kernel: String,
    /// At so many sums.
    pub sums: u64,
    /// By so many steps at most.
    pub steps: i64,
    /// A channel and a sum where it does.
    pub example: Option<(usize, i64)>,
}

/// What a layer's sums become.
pub(crate) struct Output {
    scale: f64,
    zero_point: i64,
    low: i64,
    high: i64,
}

impl Output {
    /// Of a node, or of the ReLU or Clip that runs as one with it; `None` where its results are floats.
    pub fn of(model: &Model, node: &Node) -> Result<Option<Self>, CertifyError> {
        let Some(name) = node.outputs.first() else { return Ok(None) };
        let fused = || {
            let mut readers = model.graph.nodes.iter().filter(|n| n.inputs.contains(name));
            let only = readers.next().filter(|n| n.op.quantization().fuses)?;
            let quantizer = model.activations.get(only.outputs.first()?)?;
            readers.next().is_none().then_some(quantizer)
        };
        let of = |q: &Quantizer| -> Result<Self, CertifyError> {
            let (low, high) = q.range();
            Ok(Self { scale: f64::from(q.scales()?[0]), zero_point: q.zero_points()?[0], low, high })
        };
        model.activations.get(name).or_else(fused).filter(|q| q.bits() <= 8).map(of).transpose()
    }
}

/// A sum by 31 bits and a shift, rounded once (TensorFlow Lite built with TFLITE_SINGLE_ROUNDING, and CMSIS-NN likewise).
fn single(multiplier: Multiplier, sum: i64) -> i64 {
    let shift = 31 - i64::from(multiplier.shift);
    if multiplier.multiplier == 0 {
        return 0;
    }
    let product = i128::from(sum) * i128::from(multiplier.multiplier);
    let scaled = match shift {
        1.. => (product + (1i128 << (shift - 1).min(120))) >> shift.min(121),
        _ => product << (-shift).min(32),
    };
    scaled.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// As CMSIS-NN's `arm_nn_requantize` has it: the high half of the doubled product with halves upward, then a shift with halves away from zero.
fn cmsis(multiplier: Multiplier, sum: i64) -> i64 {
    let left = i128::from(sum) << multiplier.shift.clamp(0, 62);
    let wide = left.clamp(i32::MIN.into(), i32::MAX.into()) as i64;
    let high = (wide * i64::from(multiplier.multiplier) + (1 << 30)) >> 31;
    let right = (-multiplier.shift).clamp(0, 62);
    let mask = (1i64 << right) - 1;
    let threshold = (mask >> 1) + i64::from(high < 0);
    (high >> right) + i64::from((high & mask) > threshold)
}

/// As ONNX Runtime's MLAS and XNNPACK have it: a product in float32, to the nearest, ties to even.
fn float(factor: f32, sum: i64) -> i64 {
    (sum as f32 * factor).round_ties_even() as i64
}

/// Compares the ways at every sum between the ends of each channel at which they can differ: next to where a result changes. Elsewhere all give the
/// same, since each is monotone in the sum and exact to less than what is looked at around a change.
pub(crate) fn requantization(layer: &Integers, output: &Output) -> Requantization {
    let channels: Vec<Channel> = (0..layer.weights.len()).into_par_iter().map(|c| compare(layer, output, c)).collect();
    let names = ["single rounding (TFLITE_SINGLE_ROUNDING)", "CMSIS-NN", "ONNX Runtime and XNNPACK (float32)"];
    let differ = names.iter().enumerate().map(|(i, name)| {
        let each = || channels.iter().map(|c| &c.others[i]);
        Differs {
            kernel: name.to_string(),
            sums: each().map(|o| o.sums).sum(),
            steps: each().map(|o| o.steps).max().unwrap_or(0),
            example: each().enumerate().find_map(|(channel, o)| Some((channel, o.example?))),
        }
    });
    Requantization {
        representable: channels.iter().all(|c| c.representable),
        sums: channels.iter().map(|c| c.sums).fold(0, u64::saturating_add),
        differ: differ.collect(),
    }
}

/// What was found of a channel.
#[derive(Debug, Default)]
struct Channel {
    representable: bool,
    sums: u64,
    others: [Other; 3],
}

/// Where another kernel gives another result.
#[derive(Debug, Default)]
struct Other {
    sums: u64,
    steps: i64,
    example: Option<i64>,
}

fn compare(layer: &Integers, output: &Output, channel: usize) -> Channel {
    let (low, high) = ends(&layer.weights[channel], layer.input);
    let bias = layer.biases[channel];
    let (low, high) = (low + bias, high + bias);
    let mut found = Channel { representable: true, sums: (high - low) as u64 + 1, ..Channel::default() };
    let real = layer.units[channel] / output.scale;
    let Ok(multiplier) = Multiplier::new(real) else { return Channel { representable: false, ..found } };
    if real == 0.0 || multiplier.multiplier == 0 {
        return found;
    }
    let factor = layer.units[channel] as f32 / output.scale as f32;
    let end = |steps: i64| (steps + output.zero_point).clamp(output.low, output.high);
    let mut next = i64::MIN;
    for result in output.low - 1..=output.high {
        let change = ((result - output.zero_point) as f64 + 0.5) / real;
        // Float32 is off by some 2^-22 of a sum, a shifted product by some two of its steps.
        let around = 4 + (change.abs() / f64::from(1 << 20)) as i64;
        let from = (change as i64).saturating_sub(around).max(low).max(next);
        let to = (change as i64).saturating_add(around).min(high);
        for sum in from..=to {
            let Ok(narrow) = i32::try_from(sum) else { continue };
            let ours = end(i64::from(multiplier.apply(narrow)));
            let others = [single(multiplier, sum), cmsis(multiplier, sum), float(factor, sum)];
            for (found, other) in found.others.iter_mut().zip(others) {
                let apart = (end(other) - ours).abs();
                if apart > 0 {
                    found.sums += 1;
                    found.steps = found.steps.max(apart);
                    found.example = found.example.or(Some(sum));
                }
            }
        }
        next = next.max(to.saturating_add(1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The sums next to changes are all at which kernels differ: against every sum.
        #[test]
        fn every_difference_is_found(exponent in -13f64..0.5, bias in -40_000i64..40_000, zero in -128i64..128) {
            let layer = Integers { weights: vec![vec![60, -90, 30]], biases: vec![bias], input: (-128, 127), units: vec![exponent.exp2()] };
            let output = Output { scale: 1.0, zero_point: zero, low: -128, high: 127 };
            let found = requantization(&layer, &output);
            let (low, high) = ends(&layer.weights[0], layer.input);
            let multiplier = Multiplier::new(layer.units[0]).unwrap();
            let end = |steps: i64| (steps + zero).clamp(-128, 127);
            let count = |other: &dyn Fn(i64) -> i64| (low + bias..=high + bias)
                .filter(|&sum| end(i64::from(multiplier.apply(sum as i32))) != end(other(sum)))
                .count() as u64;
            prop_assert_eq!(found.differ[0].sums, count(&|s| single(multiplier, s)));
            prop_assert_eq!(found.differ[1].sums, count(&|s| cmsis(multiplier, s)));
            prop_assert_eq!(found.differ[2].sums, count(&|s| float(layer.units[0] as f32, s)));
            prop_assert!(found.differ.iter().all(|d| d.steps <= 1));
        }
    }
}
