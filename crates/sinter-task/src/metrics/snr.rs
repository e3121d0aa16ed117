//! How much larger the float model's outputs are than what was added to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::sums::{Sum, Sums};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The ratio of the float model's outputs to their change, in decibels: ten for each factor of ten between the sums of their squares. For data without
/// labels, and for signals.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snr {}

impl Measure for Snr {
    fn metric(&self) -> Metric {
        Metric { name: "SNR, dB".into(), range: (None, None), ..Metric::bounded("", 0.0, 1.0) }
    }

    fn fits(&self, _task: Task, _labelled: bool) -> bool {
        true
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn start(&self) -> Box<dyn Tally> {
        Sums::start(|seen| seen.both(), decibels)
    }
}

/// No more is told than float32 can tell.
fn decibels(sum: &Sum) -> f64 {
    let ratio = sum.yy / sum.square.max(1e-14 * sum.yy).max(f64::MIN_POSITIVE);
    10.0 * ratio.max(f64::MIN_POSITIVE).log10()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_tenth_is_twenty_decibels() {
        let tally = super::super::tests::beside_float(&super::Snr {}, &[&[11.0, 0.0, 0.0, 1.0]], &[&[10.0, 0.0, 0.0, 1.0]]);
        assert!((tally.value(&[1, 0]) - 20.0).abs() < 1e-9);
        assert!((tally.value(&[0, 1]) - 140.0).abs() < 1e-9);
    }
}
