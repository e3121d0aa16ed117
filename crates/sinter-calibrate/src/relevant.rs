//! The part of a value that can show in a result of eight bits: what its readers ignore does not widen its range.

use sinter_model::OpResult;
use tch::Tensor;

/// Values beyond these count as lying at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Relevant {
    /// Between two ends, each maybe infinite.
    Between(f32, f32),
    /// Near the largest along an axis, counted from the end when negative: what a softmax turns into less than half a step of eight bits
    /// even where a whole row of it comes together.
    NearLargest(i64),
}

impl Relevant {
    /// What both would show.
    pub fn join(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Between(a, b), Self::Between(c, d)) => Some(Self::Between(a.min(c), b.max(d))),
            _ => (self == other).then_some(self),
        }
    }

    /// The value with all that does not matter moved to where it begins to.
    pub fn clamp(self, value: &Tensor) -> OpResult<Tensor> {
        match self {
            Self::Between(low, high) => Ok(value.f_clamp(f64::from(low), f64::from(high))?),
            Self::NearLargest(axis) if value.numel() > 0 => {
                let row = value.size()[wrapped(axis, value.dim())] as f64;
                let reach = (512.0 * row).ln();
                let ends = value.f_amax(axis, true)?.f_sub_scalar(reach)?;
                Ok(value.f_maximum(&ends)?)
            }
            Self::NearLargest(_) => Ok(value.shallow_clone()),
        }
    }
}

fn wrapped(axis: i64, rank: usize) -> usize {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    (axis.max(0) as usize).min(rank.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::to_f32s;

    /// What is left out changes no probability by half a step of eight bits, whatever else is in its row.
    #[test]
    fn a_softmax_does_not_tell_the_difference() {
        let (mut scores, mut random) = (Vec::new(), fastrand::Rng::with_seed(1));
        for i in 0..64 * 100 {
            scores.push(if i % 3 == 0 { [-1e4, -1e9, f32::MIN, f32::NEG_INFINITY][i % 4] } else { random.f32() * 30.0 - 15.0 });
        }
        let scores = Tensor::from_slice(&scores).reshape([100, 64]);
        let clamped = Relevant::NearLargest(-1).clamp(&scores).unwrap();
        let most = (clamped.softmax(-1, tch::Kind::Float) - scores.softmax(-1, tch::Kind::Float)).abs().max().double_value(&[]);
        assert!(most < 1.0 / 512.0, "{most}");
        assert!(clamped.min().double_value(&[]) > -40.0);
        let ends = Relevant::Between(f32::NEG_INFINITY, 6.0).clamp(&Tensor::from_slice(&[-1e9f32, 3.0, 7.0])).unwrap();
        assert_eq!(to_f32s(&ends).unwrap(), [-1e9, 3.0, 6.0]);
    }

    #[test]
    fn readers_join() {
        let (relu, clip) = (Relevant::Between(0.0, f32::INFINITY), Relevant::Between(-1.0, 6.0));
        assert_eq!(relu.join(clip), Some(Relevant::Between(-1.0, f32::INFINITY)));
        assert_eq!(relu.join(Relevant::NearLargest(-1)), None);
    }
}
