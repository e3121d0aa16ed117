//! Look-up tables, such as embeddings, with fewer bits.

use sinter_train::StageError;

use super::Pass;
use crate::formats::Format;
use crate::resolved::Resolved;
use crate::state::State;
use crate::weights::quantize_table;

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
                quantize_table(&mut state.model, &table, *format)?;
            }
        }
        Ok(())
    }
}
