//! Which layers bear pruning (Li et al., 2017): each is pruned alone, to several shares, and the quality measured.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinter_model::Model;
use sinter_train::{Context, Probe, StageError};

/// The shares that each layer is pruned to.
pub(crate) const SHARES: [f64; 7] = [0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98];
/// Samples that quality is measured on: of the validation split, or else of the training split.
const SAMPLES: usize = 1000;

/// What one layer, or group of layers, bears.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub name: String,
    /// Elements that the share counts.
    pub count: usize,
    /// Quality lost (in the metric's unit, 0 or more) at each of [`SHARES`].
    pub lost: Vec<f64>,
}

/// Measures a curve for each name. `prune` gives a copy of the model in which only that layer has lost a share. The scan is remembered
/// under `what`, for later runs that begin with the same model.
pub(crate) fn scan(
    model: &Model,
    what: &str,
    names: &[(String, usize)],
    context: &Context,
    prune: &dyn Fn(usize, f64) -> Result<Model, StageError>,
) -> Result<Vec<Curve>, StageError> {
    let remembered = context.memory.recall(what).and_then(|text| serde_json::from_str::<Vec<Curve>>(&text).ok());
    let curves = match remembered {
        Some(curves) if curves.len() == names.len() => curves,
        _ => {
            let curves = measure(model, names, context, prune)?;
            context.memory.keep(what, &serde_json::to_string(&curves).unwrap_or_default());
            curves
        }
    };
    for curve in &curves {
        for (&share, &lost) in SHARES.iter().zip(&curve.lost) {
            context.sensitivity(&curve.name, Probe::Share, share, lost);
        }
    }
    Ok(curves)
}

fn measure(
    model: &Model,
    names: &[(String, usize)],
    context: &Context,
    prune: &dyn Fn(usize, f64) -> Result<Model, StageError>,
) -> Result<Vec<Curve>, StageError> {
    let split = context.judging_samples(SAMPLES);
    let quality = |m: &Model| context.evaluate(m, &split, Some(model));
    let dense = quality(model)?;
    let mut curves = Vec::new();
    for (i, (name, count)) in context.each("sensitivity", names).enumerate() {
        let lost = SHARES.iter().map(|&share| Ok(dense.degradation(&quality(&prune(i, share)?)?).lost.max(0.0)));
        curves.push(Curve { name: name.clone(), count: *count, lost: lost.collect::<Result<_, StageError>>()? });
    }
    Ok(curves)
}

/// The share of each layer, by name, such that all lose the same quality alone and together the share `whole` of their elements.
pub(crate) fn allocate(curves: &[Curve], whole: f64) -> BTreeMap<String, f64> {
    let at = |tolerance: f64| -> Vec<f64> { curves.iter().map(|c| bearable(c, tolerance)).collect() };
    let total: f64 = curves.iter().map(|c| c.count as f64).sum();
    let reached = |shares: &[f64]| curves.iter().zip(shares).map(|(c, s)| c.count as f64 * s).sum::<f64>() / total.max(1.0);
    let (mut low, mut high) = (0.0, 1e-6);
    while reached(&at(high)) < whole && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if reached(&at(middle)) < whole { low = middle } else { high = middle }
    }
    let shares = at(high);
    // Layers that bear anything stop at the last share of the scan; what is still due is spread over all.
    let (reached, names) = (reached(&shares), curves.iter().map(|c| c.name.clone()));
    let stretch =
        |s: f64| if reached < whole { 1.0 - (1.0 - s) * (1.0 - whole) / (1.0 - reached) } else { s * whole / reached.max(1e-12) };
    names.zip(shares).map(|(n, s)| (n, stretch(s).clamp(0.0, 1.0))).collect()
}

/// The largest share that loses no more than `tolerance`, between the measured ones by straight lines.
fn bearable(curve: &Curve, tolerance: f64) -> f64 {
    let (mut share, mut lost) = (0.0, 0.0f64);
    for (&next, &measured) in SHARES.iter().zip(&curve.lost) {
        // Noise aside, losing more weights loses no less. A little slope keeps flat stretches apart.
        let next_lost = measured.max(lost) + 1e-9;
        if next_lost > tolerance {
            return share + (next - share) * ((tolerance - lost) / (next_lost - lost)).clamp(0.0, 1.0);
        }
        (share, lost) = (next, next_lost);
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_layers_lose_less_and_the_whole_share_is_met() {
        let curve = |name: &str, count, slope: f64| Curve {
            name: name.into(),
            count,
            lost: SHARES.iter().map(|s| slope * s * s).collect(),
        };
        let curves = [curve("tough", 1000, 0.01), curve("tender", 500, 0.5)];
        for whole in [0.2, 0.5, 0.8, 0.95, 0.99] {
            let shares = allocate(&curves, whole);
            assert!(shares["tough"] >= shares["tender"], "{shares:?}");
            let reached = (1000.0 * shares["tough"] + 500.0 * shares["tender"]) / 1500.0;
            assert!((reached - whole).abs() < 1e-3, "{whole}: {reached} {shares:?}");
        }
    }
}
