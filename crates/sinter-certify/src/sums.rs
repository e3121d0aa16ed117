//! Accumulators: the exact ends of each layer's sums over all integers that its input can hold.

use serde::{Deserialize, Serialize};

use crate::integers::{Integers, ends};

/// The sums of a layer, its bias in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// The least of any channel.
    pub low: i64,
    /// The greatest of any channel.
    pub high: i64,
    /// The narrowest signed width that holds every sum, before and after the bias joins it.
    pub bits: u32,
    /// The largest magnitude of a bias.
    pub bias: i64,
    /// Where a sum of 32 bits would wrap: a channel, and what its inputs hold then, in the order of its weight: the lowest integer where the text
    /// has a 0, the highest where it has a 1.
    pub wraps: Option<Wrap>,
}

/// An input of a layer that leaves 32 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrap {
    /// The output channel.
    pub channel: usize,
    /// The sum, with its bias or, where that joins last and mends it, without.
    pub sum: i64,
    /// The integers that give it: 0 for the lowest, 1 for the highest.
    pub inputs: String,
}

impl Sums {
    /// Whether 32 bits hold all.
    pub fn fits(&self) -> bool {
        self.wraps.is_none()
    }
}

pub(crate) fn sums(layer: &Integers) -> Sums {
    let mut found = Sums { low: i64::MAX, high: i64::MIN, bits: 1, bias: 0, wraps: None };
    for (channel, (weights, &bias)) in layer.weights.iter().zip(&layer.biases).enumerate() {
        let (low, high) = ends(weights, layer.input);
        found.bias = found.bias.max(bias.abs());
        // Whether the bias is there first or joins at the end.
        for sum in [low, high, low + bias, high + bias, bias] {
            found.bits = found.bits.max(width(sum));
        }
        found.low = found.low.min(low + bias);
        found.high = found.high.max(high + bias);
        for (sum, up) in [(low, false), (high, true), (low + bias, false), (high + bias, true)] {
            if found.wraps.is_none() && i32::try_from(sum).is_err() {
                let inputs = weights.iter().map(|&w| if (w > 0) == up { '1' } else { '0' }).collect();
                found.wraps = Some(Wrap { channel, sum, inputs });
            }
        }
    }
    if layer.weights.is_empty() {
        (found.low, found.high) = (0, 0);
    }
    found
}

/// Bits of a signed integer that holds this.
fn width(value: i64) -> u32 {
    65 - if value < 0 { value.leading_ones() } else { value.leading_zeros() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layer(weights: Vec<Vec<i64>>, biases: Vec<i64>, input: (i64, i64)) -> Integers {
        let units = vec![1.0; biases.len()];
        Integers { weights, biases, input, units }
    }

    #[test]
    fn widths_are_those_of_twos_complement() {
        assert_eq!([0, -1, 1, 127, 128, -128, -129, i32::MAX as i64, i32::MIN as i64].map(width), [1, 1, 2, 8, 9, 8, 9, 32, 32]);
    }

    #[test]
    fn a_sum_that_wraps_is_shown() {
        // 70,000 weights of 127 with inputs of 255: 2,266,950,000 > 2^31.
        let found = sums(&layer(vec![vec![127; 70_000]], vec![0], (0, 255)));
        assert_eq!(found.wraps.as_ref().map(|w| (w.channel, w.sum)), Some((0, 2_266_950_000)));
        assert!(found.wraps.unwrap().inputs.chars().all(|c| c == '1') && found.bits == 33);
        assert!(sums(&layer(vec![vec![127; 60_000]], vec![0], (0, 255))).fits());
    }

    proptest! {
        /// No input leaves the ends, and the ends are reached: against every input of a small layer.
        #[test]
        fn ends_are_exact(weights in proptest::collection::vec(-9i64..10, 1..5), bias in -50i64..50, zero in 0i64..4) {
            let input = (-zero, 3 - zero);
            let found = sums(&layer(vec![weights.clone()], vec![bias], (input.0.min(0), input.1.max(0))));
            let mut all = vec![bias];
            for w in &weights {
                all = all.iter().flat_map(|sum| (input.0..=input.1).map(move |x| sum + w * x)).collect();
            }
            prop_assert_eq!((found.low, found.high), (*all.iter().min().unwrap(), *all.iter().max().unwrap()));
        }
    }
}
