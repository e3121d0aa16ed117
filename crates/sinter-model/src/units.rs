//! Quantities with their units: bytes, joules, multiply-accumulates and ratios, as users write and read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a quantity could not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

fn split_unit(text: &str) -> Result<(f64, &str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.eE_".contains(c))).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let value =
        number.replace('_', "").parse::<f64>().map_err(|_| UnitError(format!("`{text}` does not start with a number")))?;
    Ok((value, unit.trim()))
}

/// A number of bytes. Written `512`, `64 KiB`, `1.5 MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n < 1024 => write!(f, "{n} B"),
            n if n < 1024 * 1024 => write!(f, "{:.1} KiB", n as f64 / 1024.0),
            n if n < 1024 * 1024 * 1024 => write!(f, "{:.2} MiB", n as f64 / (1024.0 * 1024.0)),
            n => write!(f, "{:.2} GiB", n as f64 / (1024.0 * 1024.0 * 1024.0)),
        }
    }
}

impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (value, unit) = split_unit(text)?;
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(UnitError(format!("unknown unit `{unit}` of size: use B, KB, KiB, MB, MiB, GB or GiB"))),
        };
        let bytes = value * factor;
        if !bytes.is_finite() || !(0.0..=1e18).contains(&bytes) {
            return Err(UnitError(format!("`{text}` is not a possible size")));
        }
        Ok(Self(bytes.round() as u64))
    }
}

/// A share between 0 and 1. Written `0.5` or `50%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize)]
#[serde(transparent)]
pub struct Ratio(f64);

impl Ratio {
    /// A ratio; errors outside 0..=1.
    pub fn new(value: f64) -> Result<Self, UnitError> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(UnitError(format!("{value} is not between 0 and 1 (0% and 100%)")))
        }
    }

    /// The share as a number between 0 and 1.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Reads a ratio of which less than `limit` is possible.
    pub fn deserialize_below<'de, D: Deserializer<'de>>(deserializer: D, limit: f64) -> Result<Self, D::Error> {
        let ratio = Self::deserialize(deserializer)?;
        if ratio.0 < limit {
            return Ok(ratio);
        }
        Err(serde::de::Error::custom(format_args!("{} is not less than {limit} ({}%)", ratio.0, limit * 100.0)))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

impl FromStr for Ratio {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (value, unit) = split_unit(text)?;
        match unit {
            "" => Self::new(value),
            "%" => Self::new(value / 100.0),
            _ => Err(UnitError(format!("unknown unit `{unit}` of ratio: write 0.5 or 50%"))),
        }
    }
}

/// Multiply-accumulate operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Macs(pub u64);

impl fmt::Display for Macs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n < 10_000 => write!(f, "{n}"),
            n if n < 1_000_000 => write!(f, "{:.1} k", n as f64 / 1e3),
            n if n < 1_000_000_000 => write!(f, "{:.2} M", n as f64 / 1e6),
            n => write!(f, "{:.2} G", n as f64 / 1e9),
        }
    }
}

/// Energy in joules.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Joules(pub f64);

/// As it can be read again.
impl Serialize for Joules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} J", self.0))
    }
}

impl fmt::Display for Joules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            j if j < 1e-6 => write!(f, "{:.1} nJ", j * 1e9),
            j if j < 1e-3 => write!(f, "{:.2} µJ", j * 1e6),
            j => write!(f, "{:.2} mJ", j * 1e3),
        }
    }
}

impl FromStr for Joules {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (value, unit) = split_unit(text)?;
        let factor = match unit {
            "J" => 1.0,
            "mJ" => 1e-3,
            "uJ" | "µJ" => 1e-6,
            "nJ" => 1e-9,
            "pJ" => 1e-12,
            _ => return Err(UnitError(format!("energy `{text}` needs a unit: J, mJ, uJ, nJ or pJ"))),
        };
        if value < 0.0 {
            return Err(UnitError(format!("`{text}` is not a possible energy")));
        }
        Ok(Self(value * factor))
    }
}

/// A time in seconds. Written `10 ms`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Seconds(pub f64);

/// As it can be read again.
impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} s", self.0))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s < 1e-3 => write!(f, "{:.0} µs", s * 1e6),
            s if s < 1.0 => write!(f, "{:.1} ms", s * 1e3),
            s => write!(f, "{s:.2} s"),
        }
    }
}

impl FromStr for Seconds {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (value, unit) = split_unit(text)?;
        let factor = match unit {
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return Err(UnitError(format!("time `{text}` needs a unit: s, ms or us"))),
        };
        if !(value.is_finite() && value >= 0.0) {
            return Err(UnitError(format!("`{text}` is not a possible time")));
        }
        Ok(Self(value * factor))
    }
}

/// Deserializes a type from its text form, so that errors keep their place in the file.
pub fn from_text<'de, T, D>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: fmt::Display,
    D: Deserializer<'de>,
{
    struct TextVisitor<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for TextVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(TextVisitor(expected, std::marker::PhantomData))
}

/// Reads a number or a text and parses it, so that errors keep their place in the file.
struct QuantityVisitor<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> serde::de::Visitor<'_> for QuantityVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<T, E> {
        value.parse().map_err(E::custom)
    }
}

macro_rules! deserialize_quantity {
    ($type:ident, $hint:literal, $examples:expr) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                crate::choices::quantity_schema($hint, $examples)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(QuantityVisitor($hint, std::marker::PhantomData))
            }
        }
    };
}
deserialize_quantity!(Bytes, "a size such as `64 KiB`", &["64 KiB", "1.5 MB"]);
deserialize_quantity!(Ratio, "a ratio such as `0.5` or `50%`", &["50%", "0.5"]);
deserialize_quantity!(Joules, "an energy such as `20 uJ`", &["20 uJ"]);
deserialize_quantity!(Seconds, "a time such as `10 ms`", &["10 ms"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_decimal_and_binary_units() {
        assert_eq!("64 KiB".parse(), Ok(Bytes(65536)));
        assert_eq!("1.5MB".parse(), Ok(Bytes(1_500_000)));
        assert!("64 kilo".parse::<Bytes>().is_err());
        assert!("-1 KB".parse::<Bytes>().is_err());
        assert!("KB".parse::<Bytes>().is_err());
    }

    #[test]
    fn ratios_are_bounded() {
        assert_eq!("50%".parse(), Ratio::new(0.5));
        assert!("150%".parse::<Ratio>().is_err());
        assert!("nan".parse::<Ratio>().is_err());
        assert_eq!(Ratio::new(0.005).unwrap().to_string(), "0.5%");
    }

    #[test]
    fn energies_need_a_unit() {
        assert_eq!("20 uJ".parse::<Joules>().unwrap().to_string(), "20.00 µJ");
        assert!("20".parse::<Joules>().is_err());
    }
}
