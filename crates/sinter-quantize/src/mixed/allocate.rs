//! The widths of least total error within a budget: a price for a byte, at which every layer chooses for itself.

use serde::{Deserialize, Serialize};

/// What one layer costs at one width.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Trial {
    pub bits: u8,
    /// Squared change of the outputs, as a part of their square.
    pub error: f64,
    /// Quality lost, in the metric's unit.
    pub lost: f64,
    pub bytes: u64,
}

/// A layer and its trials, the widest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Curve {
    pub layer: String,
    pub weight: String,
    pub trials: Vec<Trial>,
}

/// The choice of every layer at a price for a byte; with equal costs the narrower.
fn at_price(curves: &[Curve], price: f64) -> Vec<usize> {
    let cost = |t: &Trial| t.error + price * t.bytes as f64;
    let best = |c: &Curve| (0..c.trials.len()).rev().min_by(|&a, &b| cost(&c.trials[a]).total_cmp(&cost(&c.trials[b])));
    curves.iter().map(|c| best(c).unwrap_or(0)).collect()
}

/// The choices along rising prices, from the widest that is of use to the narrowest.
pub(super) fn path(curves: &[Curve]) -> Vec<Vec<usize>> {
    // Between two widths of a layer the choice changes where their costs are equal.
    let mut prices = vec![0.0];
    for curve in curves {
        for (i, a) in curve.trials.iter().enumerate() {
            let turns = curve.trials[i + 1..].iter().filter(|b| a.bytes > b.bytes);
            prices.extend(turns.map(|b| ((b.error - a.error) / (a.bytes - b.bytes) as f64).max(0.0) * (1.0 + 1e-9)));
        }
    }
    prices.sort_by(f64::total_cmp);
    let mut path: Vec<Vec<usize>> = vec![vec![0; curves.len()]];
    for price in prices {
        let next = at_price(curves, price);
        if path.last() != Some(&next) {
            path.push(next);
        }
    }
    path
}

/// The choice of least error within so many bytes: along the path, and then what still fits. Errors with the least possible bytes.
pub(super) fn within(curves: &[Curve], budget: u64) -> Result<Vec<usize>, u64> {
    let bytes = |chosen: &[usize]| -> u64 { curves.iter().zip(chosen).map(|(c, &i)| c.trials[i].bytes).sum() };
    let least: u64 = curves.iter().map(|c| c.trials.iter().map(|t| t.bytes).min().unwrap_or(0)).sum();
    let fits = path(curves).into_iter().find(|chosen| bytes(chosen) <= budget);
    let narrowest = || curves.iter().map(|c| c.trials.len() - 1).collect::<Vec<_>>();
    let mut chosen = fits.unwrap_or_else(narrowest);
    if bytes(&chosen) > budget {
        return Err(least);
    }
    // The path skips what lies above its hull: widen, best first, as long as there is room.
    loop {
        let spare = budget - bytes(&chosen);
        let gain = |i: usize, wider: usize| {
            let (now, then) = (curves[i].trials[chosen[i]], curves[i].trials[wider]);
            (then.bytes - now.bytes <= spare && then.error < now.error).then_some(now.error - then.error)
        };
        let wider = (0..curves.len()).flat_map(|i| (0..chosen[i]).map(move |w| (i, w)));
        let best = wider.filter_map(|(i, w)| Some((gain(i, w)?, i, w))).max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((_, i, w)) => chosen[i] = w,
            None => return Ok(chosen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(name: &str, count: u64, error: f64) -> Curve {
        let trial =
            |bits: u8| Trial { bits, error: error * 4f64.powi(-(bits as i32)), lost: 0.0, bytes: count * bits as u64 / 8 };
        Curve { layer: name.into(), weight: name.into(), trials: [8, 4, 2].map(trial).to_vec() }
    }

    #[test]
    fn sensitive_layers_get_more_bits_and_the_budget_is_kept() {
        let curves = [curve("tender", 1000, 100.0), curve("tough", 1000, 0.1), curve("large", 8000, 1.0)];
        let bytes = |chosen: &[usize]| -> u64 { curves.iter().zip(chosen).map(|(c, &i)| c.trials[i].bytes).sum() };
        let mut last = f64::MAX;
        for budget in [2500, 3000, 4000, 5000, 6000, 9000, 10_000] {
            let chosen = within(&curves, budget).unwrap();
            let error: f64 = curves.iter().zip(&chosen).map(|(c, &i)| c.trials[i].error).sum();
            assert!(bytes(&chosen) <= budget && error <= last, "{budget}: {chosen:?}");
            // No layer that matters more has fewer bits at the same size.
            assert!(chosen[0] <= chosen[1], "{budget}: {chosen:?}");
            last = error;
        }
        assert_eq!(within(&curves, 10_000).unwrap(), [0, 0, 0]);
        assert_eq!(within(&curves, 2499).unwrap_err(), 2500);
    }
}
