//! What a metric says of itself: enough for everybody who tells, compares or draws its values.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A metric without its computation, as records keep it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// In tables: `accuracy`.
    pub name: Cow<'static, str>,
    /// How a value is written.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// What losing some of it is counted against.
    pub loss: Loss,
    /// The least and the greatest value that there can be.
    pub range: (Option<f64>, Option<f64>),
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A share, in percent with two digits; differences are points.
    Percent,
    /// A number with four digits.
    Plain,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// A larger value.
    Higher,
    /// A smaller value.
    Lower,
}

/// What losing some of a metric is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The scale of the metric: from 91 % to 90 % is 1 %.
    Absolute,
    /// The reference's value, for metrics without a scale of their own: from 0.10 to 0.11 is 10 %.
    Relative,
}

/// How much of a metric is lost; below zero when some is gained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Degradation {
    /// In the metric's unit.
    pub lost: f64,
    /// As limits such as `accuracy_drop: 1%` count it: on the metric's own scale where it has one, else against the reference.
    pub share: f64,
}

impl std::fmt::Display for Degradation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2}%", self.share * 100.0)
    }
}

impl Metric {
    /// A share of all: written in percent, between 0 and 1, the more the better.
    pub const fn share(name: &'static str) -> Self {
        let range = (Some(0.0), Some(1.0));
        Self { name: Cow::Borrowed(name), unit: Unit::Percent, better: Better::Higher, loss: Loss::Absolute, range }
    }

    /// A number between two ends, the more the better.
    pub const fn bounded(name: &'static str, low: f64, high: f64) -> Self {
        let range = (Some(low), Some(high));
        Self { name: Cow::Borrowed(name), unit: Unit::Plain, better: Better::Higher, loss: Loss::Absolute, range }
    }

    /// An error: zero or more, the less the better, with no scale of its own.
    pub const fn error(name: &'static str) -> Self {
        let range = (Some(0.0), None);
        Self { name: Cow::Borrowed(name), unit: Unit::Plain, better: Better::Lower, loss: Loss::Relative, range }
    }

    /// Whether `a` is better than `b`.
    pub fn is_better(&self, a: f64, b: f64) -> bool {
        self.gain(b, a) > 0.0
    }

    /// A number that is the larger the better, to sort and to choose by.
    pub fn score(&self, value: f64) -> f64 {
        match self.better {
            Better::Higher => value,
            Better::Lower => -value,
        }
    }

    /// By how much `after` is better than `before`, in the metric's unit; below zero when it is worse.
    pub fn gain(&self, before: f64, after: f64) -> f64 {
        self.score(after) - self.score(before)
    }

    /// How much is lost from a reference's value to another.
    pub fn degradation(&self, reference: f64, value: f64) -> Degradation {
        let lost = self.gain(value, reference);
        Degradation {
            lost,
            share: match self.loss {
                Loss::Absolute => lost,
                Loss::Relative => lost / reference.abs().max(1e-12),
            },
        }
    }

    /// A value for people: `91.23 %`, `0.8731`.
    pub fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Percent => format!("{:.2} %", value * 100.0),
            Unit::Plain => format!("{value:.4}"),
        }
    }

    /// A change for people: `0.50 points lost`, `MSE worse by 0.0012`.
    pub fn loss_text(&self, reference: f64, value: f64) -> String {
        let lost = self.gain(value, reference);
        match (self.unit, lost >= 0.0) {
            (Unit::Percent, true) => format!("{:.2} points lost", lost * 100.0),
            (Unit::Percent, false) => format!("{:.2} points gained", -lost * 100.0),
            (Unit::Plain, true) => format!("{} worse by {lost:.4}", self.name),
            (Unit::Plain, false) => format!("{} better by {:.4}", self.name, -lost),
        }
    }

    /// A difference of two values for people, its sign included: `+0.50 points`, `-0.0012`.
    pub fn step_text(&self, before: f64, after: f64) -> String {
        match self.unit {
            Unit::Percent => format!("{:+.2} points", (after - before) * 100.0),
            Unit::Plain => format!("{:+.4}", after - before),
        }
    }

    /// The size of a difference, without its sign and unit: `0.50` points, `0.0012`.
    pub fn step_size(&self, difference: f64) -> String {
        match self.unit {
            Unit::Percent => format!("{:.2}", difference.abs() * 100.0),
            Unit::Plain => format!("{:.4}", difference.abs()),
        }
    }

    /// A value as axes of charts show it.
    pub fn scaled(&self, value: f64) -> f64 {
        match self.unit {
            Unit::Percent => value * 100.0,
            Unit::Plain => value,
        }
    }

    /// The name of an axis: `accuracy, %`.
    pub fn axis(&self) -> String {
        match self.unit {
            Unit::Percent => format!("{}, %", self.name),
            Unit::Plain => self.name.to_string(),
        }
    }

    /// The ends of an axis from `low` to `high` (both scaled), kept within what there can be.
    pub fn clamp_axis(&self, low: f64, high: f64) -> (f64, f64) {
        let end = |end: Option<f64>| end.map(|e| self.scaled(e));
        (end(self.range.0).map_or(low, |e| low.max(e)), end(self.range.1).map_or(high, |e| high.min(e)))
    }

    /// The smallest change that deserves to be drawn, in the metric's unit: a point, or a hundredth of `value`.
    pub fn notable(&self, value: f64) -> f64 {
        match self.unit {
            Unit::Percent => 0.01,
            Unit::Plain => 0.01 * value.abs().max(1e-9),
        }
    }
}

/// Records of before metrics were typed hold a name alone.
impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Name(String),
            Whole { name: String, unit: Unit, better: Better, loss: Loss, range: (Option<f64>, Option<f64>) },
        }
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Whole { name, unit, better, loss, range } => Self { name: name.into(), unit, better, loss, range },
            Stored::Name(name) => match name.as_str() {
                "accuracy" => Self::share("accuracy"),
                "AUC" => Self::bounded("AUC", 0.0, 1.0),
                "cosine" => Self::bounded("cosine", -1.0, 1.0),
                "MSE" => Self::error("MSE"),
                other => return Err(serde::de::Error::custom(format!("no version of Sinter measured `{other}`"))),
            },
        })
    }
}

impl Default for Metric {
    fn default() -> Self {
        Self::share("accuracy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: Metric = Metric::error("MSE");

    #[test]
    fn what_falls_when_it_gets_better_is_no_special_case() {
        let accuracy = Metric::share("accuracy");
        assert!((accuracy.degradation(0.91, 0.90).share - 0.01).abs() < 1e-12);
        assert!((ERROR.degradation(0.10, 0.11).share - 0.1).abs() < 1e-9);
        assert!((ERROR.degradation(0.10, 0.11).lost - 0.01).abs() < 1e-12);
        assert!(ERROR.is_better(0.1, 0.2) && accuracy.is_better(0.2, 0.1) && !accuracy.is_better(0.1, 0.1));
        assert_eq!(ERROR.loss_text(0.5, 0.25), "MSE better by 0.2500");
        assert_eq!(accuracy.loss_text(0.5, 0.25), "25.00 points lost");
        assert_eq!(accuracy.loss_text(0.5, 0.5), "0.00 points lost");
        assert_eq!(accuracy.degradation(0.5, 0.5).to_string(), "0.00%");
        assert_eq!(accuracy.step_text(0.5, 0.25), "-25.00 points");
    }

    #[test]
    fn axes_end_where_values_do() {
        assert_eq!(Metric::bounded("cosine", -1.0, 1.0).clamp_axis(0.98, 1.02), (0.98, 1.0));
        assert_eq!(Metric::share("accuracy").clamp_axis(-3.0, 104.0), (0.0, 100.0));
        assert_eq!(ERROR.clamp_axis(-1.0, 9.0), (0.0, 9.0));
    }

    #[test]
    fn old_records_name_their_metric() {
        let read = |text: &str| serde_json::from_str::<Metric>(text).unwrap();
        assert_eq!(read(r#""accuracy""#), Metric::share("accuracy"));
        assert_eq!(read(r#""MSE""#).better, Better::Lower);
        assert_eq!(read(&serde_json::to_string(&ERROR).unwrap()), ERROR);
        assert!(serde_json::from_str::<Metric>(r#""something""#).is_err());
    }
}
