//! What holds of an integer model for every input, from its weights and the range of its inputs alone, without samples: whether sums wrap, where
//! kernels round differently, where values can saturate, and how far it can be from the float model.

mod absorb;
mod bounds;
mod dequantize;
mod distance;
mod error;
mod inputs;
mod integers;
mod layers;
mod reference;
mod requantize;
mod search;
mod sums;
mod zone;

use serde::{Deserialize, Serialize};
use sinter_model::Model;

use reference::Pair;

pub use absorb::absorb;
pub use dequantize::dequantize;
pub use error::CertifyError;
pub use reference::Reference;
pub use requantize::Requantization;
pub use search::Found;
pub use sums::Sums;

/// A certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// The inputs that it speaks of: every element lies in this range; `None` where none is known, and then only sums are spoken of.
    pub inputs: Option<(f64, f64)>,
    /// One a layer that integer kernels compute.
    pub layers: Vec<LayerCertificate>,
    /// One a quantized value.
    pub ranges: Vec<Range>,
    /// What `distance` is from.
    pub reference: String,
    /// One an output of a small model.
    pub distance: Vec<Distance>,
    /// What could not be said, and why.
    pub unknown: Vec<String>,
}

/// What holds of one layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerCertificate {
    /// Its name.
    pub layer: String,
    /// Its operator.
    pub kind: String,
    /// Its accumulators.
    pub sums: Sums,
    /// How they become eight bits; `None` where its results are floats.
    pub requantization: Option<Requantization>,
}

/// Where a value can lie.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Range {
    /// The value.
    pub value: String,
    /// The least and the greatest that any input can give it, before it is quantized.
    pub reaches: (f64, f64),
    /// What its quantizer holds.
    pub holds: (f64, f64),
    /// Whether some input may saturate it. Bounds are sound, not tight: `false` is certain.
    pub saturates: bool,
}

/// How far an output can be from the reference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distance {
    /// The output.
    pub output: String,
    /// No input gives more; `None` where an operator on the way is not bounded.
    pub at_most: Option<f64>,
    /// An input gives as much.
    pub at_least: f64,
    /// The largest magnitude of the reference's output that was met, to compare with.
    pub size: f64,
}

/// A bound of so many times what outputs were seen to be is of no use to a reader.
const BEYOND: f64 = 30.0;

impl Certificate {
    /// Whether no sum can wrap.
    pub fn never_wraps(&self) -> bool {
        self.layers.iter().all(|l| l.sums.fits())
    }

    /// One line.
    pub fn summary(&self) -> String {
        let wraps: Vec<&str> = self.layers.iter().filter(|l| !l.sums.fits()).map(|l| l.layer.as_str()).collect();
        let bits = self.layers.iter().map(|l| l.sums.bits).max().unwrap_or(0);
        let wrap = match wraps.is_empty() {
            true => format!("no sum of {} layers can wrap ({bits} bits would do)", self.layers.len()),
            false => format!("sums can wrap in {}", wraps.join(", ")),
        };
        let saturates = self.ranges.iter().filter(|r| r.saturates).count();
        let from = &self.reference;
        let distance = self.distance.iter().map(|d| match d.at_most.filter(|most| *most < BEYOND * d.size) {
            Some(most) => format!(
                "; `{}` is at most {} from {from}, and {} somewhere, where outputs reach {}",
                d.output,
                digits(most),
                digits(d.at_least),
                digits(d.size)
            ),
            None => format!(
                "; `{}` is {} from {from} somewhere, where outputs reach {}; no useful bound",
                d.output,
                digits(d.at_least),
                digits(d.size)
            ),
        });
        format!("{wrap}; {saturates} of {} values may saturate{}", self.ranges.len(), distance.collect::<String>())
    }
}

impl std::fmt::Display for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.summary())?;
        if let Some((low, high)) = self.inputs {
            writeln!(f, "inputs from {} to {}", digits(low), digits(high))?;
        }
        for layer in &self.layers {
            let Sums { low, high, bits, .. } = layer.sums;
            writeln!(f, "  {} `{}`: sums from {low} to {high}, {bits} bits", layer.kind, layer.layer)?;
            if let Some(wrap) = &layer.sums.wraps {
                writeln!(f, "    WRAPS: channel {} reaches {}", wrap.channel, wrap.sum)?;
            }
            let Some(rounding) = &layer.requantization else { continue };
            if !rounding.representable {
                writeln!(f, "    a factor has no multiplier of 31 bits")?;
            }
            for other in rounding.differ.iter().filter(|d| d.sums > 0) {
                writeln!(
                    f,
                    "    {}: another result at {} of {} sums, {} steps at most",
                    other.kernel, other.sums, rounding.sums, other.steps
                )?;
            }
        }
        for range in self.ranges.iter().filter(|r| r.saturates) {
            let ((low, high), (least, most)) = (range.reaches, range.holds);
            let [low, high, least, most] = [low, high, least, most].map(digits);
            writeln!(f, "  `{}` may saturate: reaches {low} to {high}, holds {least} to {most}", range.value)?;
        }
        self.unknown.iter().try_for_each(|note| writeln!(f, "  unknown: {note}"))
    }
}

/// Four significant digits; with an exponent where the number is very large or very small.
fn digits(value: f64) -> String {
    match value.abs() {
        v if v == 0.0 || !v.is_finite() => format!("{value}"),
        v if (1e-3..1e6).contains(&v) => {
            let before = v.log10().floor() as i32 + 1;
            format!("{value:.*}", (4 - before).max(0) as usize)
        }
        _ => format!("{value:.3e}"),
    }
}

/// Certifies a quantized model for inputs of which every element lies in `inputs`, by default what the quantizers of its inputs hold. For a small one
/// it also tells how far it can be from the first of the references that is of the same graph. Errors on a model that does not run, and where it is of
/// none of their graphs.
pub fn certify(model: &Model, inputs: Option<(f64, f64)>, references: &[Reference]) -> Result<Certificate, CertifyError> {
    let mut unknown = Vec::new();
    // Another graph is an error of who gave it.
    let pair = Pair::first(model, references)?;
    // Sums need no more than the quantizers: what fails behind them leaves them standing.
    let layers = layers::of_layers(model, &mut unknown)?;
    let inputs = inputs.map_or_else(|| inputs::of_inputs(model), Ok);
    let inputs = inputs.map_err(|e| unknown.push(format!("ranges and distances: {e}"))).ok();
    let (mut ranges, mut distance) = (vec![], vec![]);
    let wraps = layers.iter().any(|l| !l.sums.fits());
    if wraps {
        unknown.push("ranges and distances: a sum can wrap, and behind it nothing holds".into());
    }
    if let Some(inputs) = inputs.filter(|_| !wraps) {
        ranges = bounds::ranges(model, inputs, &mut unknown).unwrap_or_else(|e| {
            unknown.push(format!("the ranges: {e}"));
            vec![]
        });
        distance = distance::of_outputs(&pair, inputs, &mut unknown).unwrap_or_else(|e| {
            unknown.push(format!("the distance from {}: {e}", pair.from));
            vec![]
        });
    }
    Ok(Certificate { inputs, layers, ranges, reference: pair.from, distance, unknown })
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn numbers_have_four_digits_whatever_their_size() {
        let of = [0.0, 1.0, -0.5, 306_080_864.0, 12345.6, 3.18544, 0.012_345_6, 1.5e-7, f64::INFINITY].map(digits);
        assert_eq!(of, ["0", "1.000", "-0.5000", "3.061e8", "12346", "3.185", "0.01235", "1.500e-7", "inf"]);
    }
}
