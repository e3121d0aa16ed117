//! How surprised the float model would be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::{Kind, Tensor};

use super::means::Means;
use super::{Measure, Seen, Tally, rows_of};
use crate::error::TaskError;
use crate::metric::Metric;

/// The Kullback-Leibler divergence from the float model's distribution over classes (the last axis of the first output) to ours, in nats, the mean over
/// samples and positions. Tells of every answer what accuracy tells of the largest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kl {}

impl Measure for Kl {
    fn metric(&self) -> Metric {
        Metric::error("KL")
    }

    fn fits(&self, task: Task, _labelled: bool) -> bool {
        matches!(task, Task::Classify(_) | Task::Segment(_) | Task::Transcribe(_) | Task::Language(_))
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn start(&self) -> Box<dyn Tally> {
        Means::of(divergence)
    }
}

fn divergence(seen: &Seen) -> Result<Tensor, TaskError> {
    let logarithms = |t: &Tensor| match seen.probabilities {
        true => Ok::<_, TaskError>(t.f_clamp_min(1e-9)?.f_log()?),
        false => Ok(t.f_log_softmax(-1, Kind::Float)?),
    };
    let ours = logarithms(seen.output())?;
    let theirs = logarithms(seen.references.and_then(|r| r.first()).unwrap_or(seen.output()))?;
    let each = theirs.f_exp()?.f_mul(&theirs.f_sub(&ours)?)?.f_sum_dim_intlist(-1, false, Kind::Float)?;
    Ok(rows_of(&each)?.f_mean_dim(1, false, Kind::Float)?)
}

#[cfg(test)]
mod tests {
    /// `scipy.stats.entropy(softmax(r), softmax(o))` of SciPy 1.17.1.
    #[test]
    fn as_scipy_has_it() {
        let (ours, theirs) = (&[1f32, 0.0, -1.0, 0.5, 0.25, 2.0][..], &[0.5f32, 0.5, -2.0, 0.5, 0.25, 2.0][..]);
        let tally = super::super::tests::beside_float(&super::Kl {}, &[ours], &[theirs]);
        assert!((tally.value(&[1, 0]) - 0.134_811_747_137_7).abs() < 1e-6, "{}", tally.value(&[1, 0]));
        assert!(tally.value(&[0, 1]).abs() < 1e-6);
    }
}
