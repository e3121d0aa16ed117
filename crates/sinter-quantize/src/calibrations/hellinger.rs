//! Least Hellinger distance.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_calibrate::{Histogram, Watch};

use super::RangeChoice;
use super::search::{counts_beside_zero, difference, running, shrink};

/// The range whose levels keep most of the distribution, by Hellinger's distance (Hellinger, 1909): what is clipped counts at the edge, and the
/// bins of one level share their counts evenly, as for `entropy`; unlike that, bins that are almost empty weigh next to nothing. For long tails
/// of few values. Costs a histogram and a search.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hellinger {}

impl RangeChoice for Hellinger {
    fn watch(&self) -> Watch {
        Watch::Histogram
    }

    fn choose(&self, seen: (f32, f32), histogram: &Histogram, bits: u8) -> (f32, f32) {
        let counts = counts_beside_zero(histogram);
        let sums = running(counts.iter().map(|&c| if c > 0.0 { [c, c.sqrt(), 1.0] } else { [0.0; 3] }));
        if sums[Histogram::BINS][0] <= 0.0 {
            return seen;
        }
        shrink(seen.0, seen.1, |low, high| squared_distance(&counts, &sums, (histogram.bin(low), histogram.bin(high)), 1 << bits))
    }
}

/// One less the sum of `sqrt(p q)`: p the counts from the first bin to the last with what was clipped at the ends, q the counts of each level
/// spread evenly over its bins that are not empty.
fn squared_distance(counts: &[f64], sums: &[[f64; 3]], (first, last): (usize, usize), levels: usize) -> f64 {
    let (n, total) = (last + 1 - first, sums[sums.len() - 1][0]);
    let levels = levels.min(n);
    let inside = difference(sums[last + 1], sums[first])[0];
    if inside <= 0.0 {
        return 1.0;
    }
    let below = sums[first][0];
    let above = total - sums[last + 1][0];
    let mut common = 0.0;
    for level in 0..levels {
        let (from, to) = (first + level * n / levels, first + (level + 1) * n / levels);
        let [sum, roots, filled] = difference(sums[to], sums[from]);
        if filled <= 0.0 {
            continue;
        }
        let ends = [(first, below), (last, above)];
        let clipped = ends.iter().filter(|(bin, _)| (from..to).contains(bin) && counts[*bin] > 0.0);
        let more: f64 = match (first == last, counts[first]) {
            (true, count) if count > 0.0 => (count + below + above).sqrt() - count.sqrt(),
            _ => clipped.map(|&(bin, c)| (counts[bin] + c).sqrt() - counts[bin].sqrt()).sum(),
        };
        common += (roots + more) * (sum / filled).sqrt();
    }
    1.0 - common / (total * inside).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(counts: &[f64], ends: (usize, usize), levels: usize) -> f64 {
        let sums = running(counts.iter().map(|&c| if c > 0.0 { [c, c.sqrt(), 1.0] } else { [0.0; 3] }));
        squared_distance(counts, &sums, ends, levels).max(0.0).sqrt()
    }

    /// Between (0.36, 0.48, 0.16) and three thirds it is sqrt(1 - (0.6 + sqrt(0.48) + 0.4) / sqrt(3)) = 0.150498.
    #[test]
    fn as_the_formula_has_it() {
        assert!((distance(&[36.0, 48.0, 16.0], (0, 2), 1) - 0.150_498).abs() < 1e-6);
        // A level a bin keeps all.
        assert!(distance(&[36.0, 48.0, 16.0], (0, 2), 3) < 1e-7);
        // The last bin joins the one before it: p = (0.36, 0.64), q = (36, 48) / 84.
        let common = (0.36f64 * 36.0 / 84.0).sqrt() + (0.64f64 * 48.0 / 84.0).sqrt();
        assert!((distance(&[36.0, 48.0, 16.0], (0, 1), 2) - (1.0 - common).sqrt()).abs() < 1e-9);
        // One bin alone takes both ends.
        assert!(distance(&[36.0, 48.0, 16.0], (1, 1), 4) < 1e-7);
        // What lies where nothing was is lost.
        assert!((distance(&[1.0, 0.0, 1.0], (1, 1), 4) - 1.0).abs() < 1e-9);
    }
}
