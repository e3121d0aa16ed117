//! The cosine between the outputs and those of the float model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use tch::Tensor;

use super::means::Means;
use super::{Measure, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The mean cosine between all outputs and those of the float model. For data without labels.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cosine {}

impl Measure for Cosine {
    fn metric(&self) -> Metric {
        Metric::bounded("cosine", -1.0, 1.0)
    }

    fn fits(&self, _task: Task, _labelled: bool) -> bool {
        true
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn start(&self) -> Box<dyn Tally> {
        Means::of(cosines)
    }
}

fn cosines(seen: &Seen) -> Result<Tensor, TaskError> {
    let (ours, theirs) = seen.both()?;
    Ok(Tensor::f_cosine_similarity(&ours, &theirs, 1, 1e-8)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::beside_float;
    use super::Cosine;

    #[test]
    fn right_angles_and_parallels() {
        let (ours, theirs) = (&[1f32, 0.0, 2.0, 2.0][..], &[0f32, 3.0, 1.0, 1.0][..]);
        let tally = beside_float(&Cosine {}, &[ours], &[theirs]);
        assert!((tally.value(&[1, 1]) - 0.5).abs() < 1e-6 && (tally.value(&[0, 1]) - 1.0).abs() < 1e-6);
        // A second output counts too.
        let tally = beside_float(&Cosine {}, &[ours, ours], &[ours, theirs]);
        assert!((0.2..0.4).contains(&tally.value(&[1, 0])), "{}", tally.value(&[1, 0]));
    }
}
