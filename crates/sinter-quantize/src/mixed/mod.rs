//! Mixed precision: how many bits each layer's weight gets when all together may take so much.
//!
//! One scan rounds each layer alone to each width and measures what that does to the outputs and to the quality. What layers do to the
//! outputs adds up nearly, so the widths of least total error within a budget are found by a price for a byte, at which every layer
//! chooses for itself (Shoham and Gersho, 1988; for networks, Dong et al., HAWQ-V2, 2020).

mod allocate;
pub(crate) mod config;
mod scan;

use std::collections::BTreeMap;

use sinter_estimate::{costs, footprint};
use sinter_model::{Bytes, Joules, Layer, Model};
use sinter_train::{Context, StageError};

use crate::formats::Format;
use crate::placement::{in_integers, place};
use crate::resolved::Resolved;
use crate::sketch::sketch_values;
use allocate::{Curve, path, within};
use config::MixedConfig;
use scan::Scan;

/// Samples that quality and outputs are measured on: of the validation split, or else of the training split.
const SAMPLES: usize = 1000;

/// Chooses a format for the weight of each of these layers; by the weight's name.
pub(crate) fn choose(
    mixed: &MixedConfig,
    resolved: &Resolved,
    model: &Model,
    layers: &[Layer],
    context: &Context,
) -> Result<BTreeMap<String, Format>, StageError> {
    let split = context.judging_samples(SAMPLES);
    let scan = Scan { resolved, model, layers, split: &split, context };
    let curves = scan.curves(mixed)?;
    let narrowest = mixed.widths.iter().min().copied().unwrap_or(0);
    let chosen = match (mixed.size, mixed.accuracy_drop, mixed.energy) {
        (Some(size), ..) => within(&curves, size.0).map_err(|least| {
            let reason = format!("the weights take at least {} at {narrowest} bits", Bytes(least));
            StageError::config("mixed.size", reason)
        })?,
        (_, Some(most), _) => hold(&scan, &curves, most.get())?,
        (_, _, Some(most)) => {
            let bytes = bytes_for(&scan, &curves, most)?;
            within(&curves, bytes).map_err(|_| {
                let reason = format!("{most} is not enough even with {narrowest} bits for every weight");
                StageError::config("mixed.energy", reason)
            })?
        }
        _ => vec![0; curves.len()],
    };
    let picked = curves.iter().zip(&chosen).map(|(c, &i)| (&c.layer, c.trials[i]));
    let text = picked.clone().map(|(layer, t)| format!("{layer} {}", t.bits)).collect::<Vec<_>>().join(", ");
    let bytes: u64 = picked.map(|(_, t)| t.bytes).sum();
    context.note(format!("bits chosen for {} of weights: {text}", Bytes(bytes)));
    let formats = curves.iter().zip(chosen).map(|(c, i)| (c.weight.clone(), scan.with_bits(c.trials[i].bits)));
    Ok(formats.collect())
}

/// The fewest bytes at which no more quality is lost than allowed, as measured with all layers rounded.
fn hold(scan: &Scan, curves: &[Curve], most: f64) -> Result<Vec<usize>, StageError> {
    let goal = scan.context.evaluate(scan.model, scan.split, Some(scan.model))?;
    let lost = |chosen: &[usize]| -> Result<f64, StageError> {
        let mut trial = scan.model.copy();
        for ((layer, curve), &i) in scan.layers.iter().zip(curves).zip(chosen) {
            scan.round_one(&mut trial, layer, curve.trials[i].bits)?;
        }
        Ok(goal.degradation(&scan.context.evaluate(&trial, scan.split, Some(scan.model))?).share)
    };
    // Every choice that some price leads to, from the widest to the narrowest.
    let path = path(curves);
    let (mut low, mut high) = (0, path.len() - 1);
    let widest = lost(&path[0])?;
    if widest > most {
        let text = format!("{:.2}% are lost even at the widest: `mixed.accuracy_drop` can't be held", widest * 100.0);
        scan.context.note(text);
        return Ok(path[0].clone());
    }
    // As many looks as a search by halves takes.
    let looks = (path.len().max(2) - 1).ilog2() as usize + 1;
    let mut look = 0;
    while low < high {
        let middle = (low + high).div_ceil(2);
        look += 1;
        scan.context.progress("choice of bits", look.min(looks), looks);
        if lost(&path[middle])? <= most { low = middle } else { high = middle - 1 }
    }
    scan.context.progress("choice of bits", looks, looks);
    Ok(path[low].clone())
}

/// The bytes of weights that an energy leaves room for.
fn bytes_for(scan: &Scan, curves: &[Curve], most: Joules) -> Result<u64, StageError> {
    let mut widest = scan.model.copy();
    for (layer, curve) in scan.layers.iter().zip(curves) {
        scan.round_one(&mut widest, layer, curve.trials[0].bits)?;
    }
    if let Some(format) = scan.resolved.activations.calibrated() {
        // Any range does: energy asks for widths alone.
        let placement = place(&widest, scan.resolved, &in_integers(&widest, scan.resolved));
        sketch_values(&mut widest, scan.resolved, &placement, format.bits())?;
    }
    let target = scan.context.target;
    let floor = costs(&footprint(&widest)?, target).floor;
    let bytes: u64 = curves.iter().map(|c| c.trials[0].bytes).sum();
    let spare = (most.0 - floor) * 1e12 / target.floor.byte_pj;
    Ok((bytes as f64 + spare).max(0.0) as u64)
}
