//! The largest change of any output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use sinter_model::to_f32s;

use super::{Alone, Measure, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The largest difference of any output from the float model's. For what must never be far off.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxError {}

impl Measure for MaxError {
    fn metric(&self) -> Metric {
        Metric::error("max error")
    }

    fn fits(&self, _task: Task, _labelled: bool) -> bool {
        true
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Largest::default())
    }
}

/// The largest of each sample.
#[derive(Default)]
struct Largest(Vec<f32>);

impl Tally for Largest {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let (ours, theirs) = seen.both()?;
        self.0.extend(to_f32s(&ours.f_sub(&theirs)?.f_abs()?.f_amax(1, false)?)?);
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        let there = self.0.iter().zip(times).filter(|(_, t)| **t > 0).map(|(v, _)| f64::from(*v));
        there.fold(0.0, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        self.0.get(sample).map(|v| Alone::of(f64::from(*v)))
    }

    /// Samples that are drawn again say nothing of the largest of all.
    fn can_resample(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_worst_counts() {
        let tally = super::super::tests::beside_float(&super::MaxError {}, &[&[1.0, 0.0, 2.0, 2.0]], &[&[0.0, 3.0, 1.0, 1.0]]);
        assert_eq!((tally.value(&[1, 1]), tally.value(&[0, 1])), (3.0, 1.0));
    }
}
