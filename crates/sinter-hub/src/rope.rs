//! Rotary positions (RoFormer; Su et al., 2021), and what is done to them for longer texts.

use std::f64::consts::PI;

use serde_json::Value;

/// How fast each pair of a head turns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    pub scaling: Scaling,
}

/// What is done to the frequencies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// All are as many times slower (Chen et al., 2023).
    Linear {
        factor: f64,
    },
    /// Slow ones are slower still, fast ones stay (Llama 3.1).
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        /// Tokens that the model was first trained on.
        original: f64,
    },
}

impl Rope {
    /// From `rope_theta` and `rope_scaling`, or from `rope_parameters`, which holds both. Errors name a kind that is not known.
    pub fn read(theta: Option<f64>, scaling: Option<&Value>) -> Result<Self, String> {
        let number = |key: &str| scaling.and_then(|s| s.get(key)).and_then(Value::as_f64);
        let wanted = |key: &str| {
            number(key)
                .filter(|n| n.is_finite() && *n > 0.0)
                .ok_or_else(|| format!("the scaling of rotary positions lacks `{key}`"))
        };
        let theta = number("rope_theta").or(theta).unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(format!("`rope_theta` is {theta}, which is no base"));
        }
        let kind = scaling.and_then(|s| s.get("rope_type").or_else(|| s.get("type"))).and_then(Value::as_str);
        let scaling = match kind.unwrap_or("default") {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: wanted("factor")? },
            "llama3" => Scaling::Llama3 {
                factor: wanted("factor")?,
                low: wanted("low_freq_factor")?,
                high: wanted("high_freq_factor")?,
                original: wanted("original_max_position_embeddings")?,
            },
            other => return Err(format!("rotary positions of kind `{other}` are not known; default, linear and llama3 are")),
        };
        Ok(Self { theta, scaling })
    }

    /// The angle by which each pair of a head of `head` elements turns from one token to the next.
    pub fn frequencies(&self, head: i64) -> Vec<f64> {
        let plain = (0..head / 2).map(|i| self.theta.powf(-2.0 * i as f64 / head as f64));
        plain.map(|f| self.scaled(f)).collect()
    }

    fn scaled(&self, frequency: f64) -> f64 {
        match self.scaling {
            Scaling::None => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Llama3 { factor, low, high, original } => {
                let turns = original * frequency / (2.0 * PI);
                let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `transformers.modeling_rope_utils` 5.24: theta 500000, head 8, factor 8, low 1, high 4, original 64.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let scaling = serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64});
        let rope = Rope::read(Some(500_000.0), Some(&scaling)).unwrap();
        for (found, wanted) in rope.frequencies(8).iter().zip([1.0, 4.7008e-3, 1.7678e-4, 6.6479e-6]) {
            assert!((found - wanted).abs() <= 1e-4 * wanted, "{found} {wanted}");
        }
        // What stands inside wins, as in transformers.
        let both = Rope::read(Some(10_000.0), Some(&serde_json::json!({"rope_type": "default", "rope_theta": 5e5}))).unwrap();
        assert_eq!(both.theta, 5e5);
        let unknown = serde_json::json!({"rope_type": "spiral"});
        assert!(Rope::read(None, Some(&unknown)).unwrap_err().contains("`spiral`"));
    }
}
