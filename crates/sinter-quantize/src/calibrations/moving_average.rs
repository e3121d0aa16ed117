//! Averages of each sample's extremes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::{Histogram, Watch};

use super::RangeChoice;

/// The extremes of each sample, averaged; the latest five hundred count most (an exponential moving average; Jacob et al., 2018). For many samples
/// with few outliers each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MovingAverage {}

impl RangeChoice for MovingAverage {
    fn watch(&self) -> Watch {
        Watch::Averages
    }

    fn choose(&self, seen: (f32, f32), _histogram: &Histogram, _bits: u8) -> (f32, f32) {
        seen
    }
}
