//! Look-up tables, such as embeddings, with fewer bits.

use sinter_model::{Layer, Model, Quantizer};
use sinter_train::StageError;

use super::Pass;
use crate::formats::{Format, Number};
use crate::resolved::Resolved;
use crate::state::State;
use crate::weights::weight_params;

/// Rounds the tables that the model picks rows of to the nearest, with a scale a row, or one for each group of a row. Nothing is multiplied in
/// integers: rows become real numbers once they are picked.
#[derive(Debug)]
pub(crate) struct Tables;

impl Pass for Tables {
    fn name(&self) -> &'static str {
        "tables"
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let mut formats: Vec<String> = resolved.tables.values().map(Format::to_string).collect();
        formats.sort();
        formats.dedup();
        let count = resolved.tables.len();
        (count > 0).then(|| format!("{count} look-up table{} to {}", if count == 1 { "" } else { "s" }, formats.join(", ")))
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        for table in state.model.tables() {
            if let Some(format) = state.resolved.tables.get(&table.weight) {
                quantize(&mut state.model, &table, *format)?;
            }
        }
        Ok(())
    }
}

/// Gives a table the scales of a format.
pub(crate) fn quantize(model: &mut Model, table: &Layer, format: Format) -> Result<(), StageError> {
    let at = StageError::weight(&table.weight);
    let weight = model.weight_mut(&table.weight)?;
    if let Number::Half(half) = format.number {
        weight.to_half(half);
        return Ok(());
    }
    let value = weight.effective().map_err(&at)?.f_detach()?;
    let one_scale = weight.codebook().is_some();
    let Some(params) = weight_params(table.slot, &value, format, one_scale, None).map_err(&at)? else { return Ok(()) };
    weight.quantize(Quantizer::new(&params).map_err(&at)?).map_err(&at)
}
