//! What integer kernels derive from quantization parameters, in one place: the factor by which a sum is rescaled, and the 32-bit bias that
//! joins it. What does not fit is an error, never clamped.

use super::params::QuantParams;
use crate::error::DoesNotFit;

/// A factor as `multiplier * 2^(shift - 31)` (Jacob et al., 2018, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiplier {
    /// 31 bits, the highest of them set; 0 for a factor below 2^-32, by which every sum of 32 bits becomes 0.
    pub multiplier: i32,
    /// Places to the left.
    pub shift: i32,
}

impl Multiplier {
    /// The nearest to a factor of zero or more. Errors on one that is negative, not finite, or 2^31 and beyond.
    pub fn new(factor: f64) -> Result<Self, DoesNotFit> {
        if !(factor.is_finite() && factor >= 0.0) {
            return Err(DoesNotFit::Factor(factor));
        }
        if factor == 0.0 {
            return Ok(Self { multiplier: 0, shift: 0 });
        }
        let mut shift = factor.log2().floor() as i32 + 1;
        let mut multiplier = (factor * 2f64.powi(31 - shift)).round() as i64;
        if multiplier == 1 << 31 {
            multiplier /= 2;
            shift += 1;
        }
        if shift > 31 {
            return Err(DoesNotFit::Factor(factor));
        }
        // Beyond 31 places nothing of 32 bits is left.
        if shift < -31 { Ok(Self { multiplier: 0, shift: 0 }) } else { Ok(Self { multiplier: multiplier as i32, shift }) }
    }

    /// `x` times the factor, rounded at the multiplication and at the shift, as TensorFlow Lite Micro's reference kernels do.
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

/// A bias as integer kernels add it: in steps of `input scale * weight scale`, one for each of `count` output channels (`values` has one
/// for all, or one each). Errors on a bias beyond 32 bits.
pub fn integer_bias(values: &[f32], count: usize, input: f32, weight: &QuantParams) -> Result<Vec<i32>, DoesNotFit> {
    let each = (0..count).map(|channel| {
        let value = values.get(channel % values.len().max(1)).copied().unwrap_or(0.0);
        let scale = input as f64 * weight.scale(channel) as f64;
        let steps = (value as f64 / scale).round();
        match steps.abs() <= i32::MAX as f64 {
            true => Ok(steps as i32),
            false => Err(DoesNotFit::Bias { channel, value, scale, steps }),
        }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{Granularity, Levels};
    use proptest::prelude::*;

    #[test]
    fn factors_are_hit() {
        for factor in [1e-6, 0.0123, 0.25, 0.5, 0.999_999_999_9, 1.0, 1.5, 3.0, 700.0] {
            let multiplier = Multiplier::new(factor).unwrap();
            for x in [-90_000, -7, -1, 0, 1, 5, 1234, 90_000] {
                let exact = x as f64 * factor;
                // Rounded twice: a quarter may become a half, and that a whole.
                assert!((multiplier.apply(x) as f64 - exact).abs() <= 0.75 + 1e-3, "{x} * {factor} = {}", multiplier.apply(x));
            }
        }
        assert_eq!(Multiplier::new(0.0).unwrap().apply(1 << 30), 0);
    }

    #[test]
    fn halves_go_up() {
        let half = Multiplier::new(0.5).unwrap();
        assert_eq!([1, 3, -1, -3].map(|x| half.apply(x)), [1, 2, 0, -1]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        for factor in [-1.0, f64::NAN, f64::INFINITY, 2f64.powi(40)] {
            assert!(Multiplier::new(factor).is_err(), "{factor}");
        }
        let weight = QuantParams::new(8, Levels::Symmetric, Granularity::Channel(0), vec![1e-9, 0.5], vec![0, 0]).unwrap();
        assert_eq!(integer_bias(&[1e-9, -2.0], 2, 0.25, &weight).unwrap(), [4, -16]);
        let refused = integer_bias(&[1.0, -2.0], 2, 0.25, &weight);
        assert!(matches!(refused, Err(DoesNotFit::Bias { channel: 0, .. })), "{refused:?}");
        assert_eq!(integer_bias(&[], 3, 0.25, &weight).unwrap(), [0, 0, 0]);
    }

    proptest! {
        /// Against the product in float64, for every factor that a kernel may meet.
        #[test]
        fn a_sum_is_rescaled_to_within_a_step(exponent in -40f64..20.0, x in -1_000_000i32..1_000_000) {
            let factor = exponent.exp2();
            prop_assume!((x as f64 * factor).abs() < 1e9);
            let found = Multiplier::new(factor).unwrap().apply(x) as f64;
            prop_assert!((found - x as f64 * factor).abs() <= 0.75 + (x as f64 * factor).abs() * 1e-9, "{x} * {factor} = {found}");
        }
    }
}
