//! A model as it will be quantized, before anything is known of its values: every quantizer in its place, with a range made up.

use sinter_model::{Layer, Model, QuantParams, Quantizer};
use sinter_train::StageError;

use crate::formats::{Format, Number};
use crate::placement::Placement;
use crate::resolved::Resolved;
use crate::weights::{granularity, integers, quantize_table};

/// Gives weights the formats that `weight` says, look-up tables theirs, and values a quantizer each. Later stages and exports see from it what there will be, and
/// its speed is that of the model to come.
pub(crate) fn sketch(
    model: &mut Model,
    resolved: &Resolved,
    placement: &Placement,
    weight: &dyn Fn(&Layer) -> Option<Format>,
) -> Result<(), StageError> {
    for layer in model.layers() {
        let Some(format) = weight(&layer) else { continue };
        let at = StageError::weight(&layer.weight);
        let weight = model.weight_mut(&layer.weight)?;
        if let Number::Half(half) = format.number {
            weight.to_half(half);
        }
        let Some((bits, levels)) = integers(format) else { continue };
        let granularity = granularity(layer.slot, format, weight.codebook().is_some());
        let Some(count) = granularity.scales(&weight.size()) else { continue };
        let params = QuantParams::scaled(bits, levels, granularity, &vec![1.0; count.max(0) as usize]);
        let quantizer = params.and_then(|p| Quantizer::new(&p)).map_err(&at)?;
        weight.quantize(quantizer).map_err(&at)?;
    }
    for table in model.tables() {
        if let Some(format) = resolved.tables.get(&table.weight) {
            quantize_table(model, &table, *format)?;
        }
    }
    sketch_values(model, resolved, placement, 8)
}

/// Gives every value of a placement a quantizer of so many bits.
pub(crate) fn sketch_values(model: &mut Model, resolved: &Resolved, placement: &Placement, bits: u8) -> Result<(), StageError> {
    for value in placement.own.iter().chain(placement.shared.iter().map(|(name, _)| name)) {
        let params = QuantParams::affine(bits, resolved.levels(), -1.0, 1.0);
        let quantizer = params.and_then(|p| Quantizer::new(&p)).map_err(StageError::weight(value))?;
        model.activations.insert(value.clone(), quantizer);
    }
    Ok(())
}
