//! All but the outermost.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use sinter_calibrate::{Histogram, Watch};
use sinter_model::Ratio;

use super::RangeChoice;

/// All but the outermost share on each side (as in Wu et al., 2020). For values with rare outliers. Costs a histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Percentile {
    /// The share that is left out on each side, less than half. Default: 0.01%.
    #[serde(default = "outside", deserialize_with = "less_than_half")]
    pub outside: Ratio,
}

fn outside() -> Ratio {
    Ratio::new(1e-4).unwrap_or_default()
}

fn less_than_half<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ratio, D::Error> {
    Ratio::deserialize_below(deserializer, 0.5)
}

impl Default for Percentile {
    fn default() -> Self {
        Self { outside: outside() }
    }
}

impl RangeChoice for Percentile {
    fn watch(&self) -> Watch {
        Watch::Histogram
    }

    fn choose(&self, seen: (f32, f32), histogram: &Histogram, _bits: u8) -> (f32, f32) {
        let cut = (histogram.counts().iter().sum::<u64>() as f64 * self.outside.get()) as u64;
        let edge = |mut bins: Box<dyn Iterator<Item = usize>>| {
            let mut sum = 0;
            bins.by_ref().find(|&b| {
                sum += histogram.counts()[b];
                sum > cut
            })
        };
        let bins = histogram.counts().len();
        let from = edge(Box::new(0..bins)).map_or(seen.0, |b| (histogram.centre(b) - 0.5 * histogram.width()) as f32);
        let to = edge(Box::new((0..bins).rev())).map_or(seen.1, |b| (histogram.centre(b) + 0.5 * histogram.width()) as f32);
        (from.max(seen.0), to.min(seen.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_calibrate::Observer;

    #[test]
    fn a_share_is_left_out_on_each_side() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let mut observer = Observer::new(Watch::Histogram);
        observer.observe(&values, 1);
        let percentile = Percentile { outside: Ratio::new(0.1).unwrap() };
        let (low, high) = percentile.choose((0.0, 1.0), observer.histogram(), 8);
        // To within a bin.
        assert!((low - 0.1).abs() < 1e-3 && (high - 0.9).abs() < 1e-3, "{low} {high}");
    }
}
