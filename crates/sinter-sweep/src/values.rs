//! The values that one key of a space can take, and where each lies.

use std::fmt;

use serde_json::Value;

/// The values that one parameter can take.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Without an order between them.
    Choices(Vec<String>),
    /// Along an axis.
    Axis(Axis),
}

/// Values along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) step: Option<f64>,
    pub(crate) log: bool,
    /// Written as `50%`; the numbers are shares.
    pub(crate) percent: bool,
}

/// A number, and whether it is a share in hundredths.
pub(crate) fn number(value: &Value) -> Option<(f64, bool)> {
    match value {
        Value::Number(n) => Some((n.as_f64()?, false)),
        Value::String(text) => match text.strip_suffix('%') {
            Some(text) => Some((text.trim().parse::<f64>().ok()? / 100.0, true)),
            None => Some((text.trim().parse().ok()?, false)),
        },
        _ => None,
    }
    .filter(|(n, _)| n.is_finite())
}

impl Axis {
    fn bent(&self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }

    /// The value at a place from 0 to 1.
    fn value(&self, place: f64) -> f64 {
        let (low, high) = (self.bent(self.low), self.bent(self.high));
        let value = low + place.clamp(0.0, 1.0) * (high - low);
        let value = if self.log { value.exp() } else { value };
        match self.step {
            Some(step) => (self.low + ((value - self.low) / step).round() * step).min(self.last(step)),
            None => value.clamp(self.low, self.high),
        }
    }

    /// The greatest value that steps reach.
    fn last(&self, step: f64) -> f64 {
        self.low + ((self.high - self.low) / step + 1e-9).floor() * step
    }

    fn place_of(&self, value: f64) -> f64 {
        let (low, high) = (self.bent(self.low), self.bent(self.high));
        ((self.bent(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// A value as it is written. It lies between the ends as they are written, and is one of some ten thousand, which is finer than anybody tunes.
    pub(crate) fn text(&self, value: f64) -> String {
        let scale = if self.percent { 100.0 } else { 1.0 };
        let exponent = |of: f64| (of * scale).abs().max(f64::MIN_POSITIVE).log10().floor() as i32;
        let decimals = match self.step {
            // What adding up steps leaves behind the comma goes.
            Some(step) => 6 - exponent(step),
            None => (3 - exponent(value)).max(4 - exponent(self.high - self.low)),
        };
        let unit = 10f64.powi(decimals.clamp(-300, 300));
        let rounded = (value * scale * unit).round() / unit;
        let number = if rounded.is_finite() { rounded } else { value * scale };
        let number = number.clamp(self.low * scale, self.high * scale);
        if self.percent { format!("{number}%") } else { format!("{number}") }
    }
}

impl Values {
    /// The number of values; `None` where there are any number of them.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Choices(all) => Some(all.len()),
            Self::Axis(axis) => axis.step.map(|step| ((axis.high - axis.low) / step + 1e-9).floor() as usize + 1),
        }
    }

    /// Whether values lie evenly on a logarithmic scale.
    pub fn is_logarithmic(&self) -> bool {
        matches!(self, Self::Axis(axis) if axis.log)
    }

    /// The place of the value with this number.
    pub fn nth(&self, index: usize) -> f64 {
        match self {
            Self::Choices(_) => index as f64,
            Self::Axis(axis) => axis.place_of(axis.low + index as f64 * axis.step.unwrap_or(0.0)),
        }
    }

    /// The number of the value at a place; of an axis without steps always 0.
    pub(crate) fn index(&self, place: f64) -> usize {
        match self {
            Self::Choices(_) => place as usize,
            Self::Axis(axis) => axis.step.map_or(0, |step| ((axis.value(place) - axis.low) / step).round() as usize),
        }
    }

    /// The place of the nearest value that there is.
    pub(crate) fn nearest(&self, place: f64) -> f64 {
        match self {
            Self::Choices(all) => (place as usize).min(all.len() - 1) as f64,
            Self::Axis(axis) => axis.place_of(axis.value(place)),
        }
    }

    /// A value as it is written.
    pub(crate) fn text(&self, place: f64) -> String {
        match self {
            Self::Choices(all) => all[(place as usize).min(all.len() - 1)].clone(),
            Self::Axis(axis) => axis.text(axis.value(place)),
        }
    }

    /// Where a written value lies; `None` outside.
    pub(crate) fn place(&self, text: &str) -> Option<f64> {
        match self {
            Self::Choices(all) => all.iter().position(|t| t == text).map(|i| i as f64),
            Self::Axis(axis) => {
                let (value, percent) = number(&Value::from(text))?;
                let slack = 1e-9 * (axis.high - axis.low);
                let inside = percent == axis.percent && value >= axis.low - slack && value <= axis.high + slack;
                // The nearest step, whatever is left of adding steps up.
                inside.then(|| self.nearest(axis.place_of(value.clamp(axis.low, axis.high))))
            }
        }
    }

    /// Whether a written value is one of these, and not between two of them.
    pub fn has(&self, text: &str) -> bool {
        self.place(text).is_some_and(|place| self.is_at(place, text))
    }

    /// Whether a written value is the one at a place, and not between two steps.
    pub(crate) fn is_at(&self, place: f64, text: &str) -> bool {
        match self {
            Self::Choices(_) => self.text(place) == text,
            Self::Axis(axis) => {
                let written = number(&Value::from(text)).map(|(value, _)| value);
                written.is_some_and(|value| (value - axis.value(place)).abs() <= 1e-6 * axis.step.unwrap_or(axis.high - axis.low))
            }
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choices(all) => write!(f, "one of {}", all.join(", ")),
            Self::Axis(axis) => write!(f, "from {} to {}", axis.text(axis.low), axis.text(axis.high)),
        }
    }
}
