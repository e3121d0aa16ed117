//! All that was seen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::{Histogram, Watch};

use super::RangeChoice;

/// All that was seen. For values without outliers; the cheapest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinMax {}

impl RangeChoice for MinMax {
    fn watch(&self) -> Watch {
        Watch::Extremes
    }

    fn choose(&self, seen: (f32, f32), _histogram: &Histogram, _bits: u8) -> (f32, f32) {
        seen
    }
}
