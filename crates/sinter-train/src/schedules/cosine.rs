//! Half a cosine (Loshchilov and Hutter, 2017).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Ratio;

use super::Curve;

/// Down to zero along half a cosine, after a linear warm-up (SGDR without restarts; Loshchilov and Hutter, 2017).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cosine {
    /// The share of all steps over which the rate rises. Default: 2%.
    pub warmup: Ratio,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { warmup: Ratio::new(0.02).unwrap_or_default() }
    }
}

impl Curve for Cosine {
    fn factor(&self, done: f64) -> f64 {
        let warmup = self.warmup.get();
        match done < warmup {
            true => (done / warmup).max(0.05),
            false => 0.5 * (1.0 + (std::f64::consts::PI * (done - warmup) / (1.0 - warmup).max(1e-12)).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_and_down() {
        let curve = Cosine::default();
        let close = |done: f64, factor: f64| (curve.factor(done) - factor).abs() < 1e-9;
        assert!(close(0.0, 0.05) && close(0.01, 0.5) && close(0.02, 1.0) && close(0.51, 0.5) && close(1.0, 0.0));
    }
}
