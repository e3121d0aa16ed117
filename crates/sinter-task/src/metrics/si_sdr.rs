//! The ratio of a signal to what was added to it, whatever its loudness.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::{Kind, Tensor};

use super::means::Means;
use super::sums::with_labels;
use super::{Measure, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The scale-invariant ratio of signal to distortion in decibels, the mean over samples (Le Roux et al., 2019). For denoising and separation: labels are
/// the clean signals.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiSdr {}

impl Measure for SiSdr {
    fn metric(&self) -> Metric {
        Metric { name: "SI-SDR, dB".into(), range: (None, None), ..Metric::bounded("", 0.0, 1.0) }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Regress(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Means::of(ratios)
    }
}

fn ratios(seen: &Seen) -> Result<Tensor, TaskError> {
    let (x, y) = with_labels(seen)?;
    let centred = |t: &Tensor| -> Result<Tensor, TaskError> {
        let t = t.f_to_kind(Kind::Double)?;
        Ok(t.f_sub(&t.f_mean_dim(1, true, Kind::Double)?)?)
    };
    let (x, y) = (centred(&x)?, centred(&y)?);
    let dot = |a: &Tensor, b: &Tensor| a.f_mul(b)?.f_sum_dim_intlist(1, true, Kind::Double);
    let signal = y.f_mul(&dot(&x, &y)?.f_div(&dot(&y, &y)?.f_clamp_min(1e-12)?)?)?;
    let noise = x.f_sub(&signal)?;
    let ratio = dot(&signal, &signal)?.f_div(&dot(&noise, &noise)?.f_clamp_min(1e-12)?)?;
    Ok(ratio.f_clamp_min(1e-12)?.f_log10()?.f_mul_scalar(10.0)?.f_reshape([-1])?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::value;
    use super::*;
    use sinter_data::Regress;

    /// By the definition, in NumPy 2: `10 log10(|s|² / |p - s|²)`, `s` the part of `p` along `t`, both without their means.
    #[test]
    fn as_the_definition_has_it() {
        let output = Tensor::from_slice(&[2.5f32, 0.0, 2.0, 8.0]).reshape([1, 4]);
        let wanted = Tensor::from_slice(&[3.0f32, -0.5, 2.0, 7.0]).reshape([1, 4]);
        let task = Task::Regress(Regress::default());
        let found = value(&SiSdr {}, task, &[(output.shallow_clone(), wanted.shallow_clone())], None);
        assert!((found - 15.091_756_165).abs() < 1e-4, "{found}");
        // Twice as loud is as good.
        assert!((value(&SiSdr {}, task, &[(output * 2.0, wanted)], None) - found).abs() < 1e-4);
    }
}
