//! All trials as a table, for spreadsheets and data frames.

use std::collections::BTreeSet;
use std::path::Path;

use sinter_report::{Cells, write_table};

use crate::trial::Trial;
use crate::work::SweepError;

/// Writes all trials as .csv or .parquet, by the ending of `to`: one row a trial, one column a key of the space and a figure.
pub fn table(trials: &[Trial], to: &Path) -> Result<(), SweepError> {
    let keys: BTreeSet<&String> = trials.iter().flat_map(|t| t.recipe.keys()).collect();
    let figures: BTreeSet<&String> = trials.iter().flat_map(|t| t.figures.keys()).collect();
    let text = |of: &dyn Fn(&Trial) -> String| Cells::Texts(trials.iter().map(of).collect());
    let mut columns: Vec<(String, Cells)> = vec![
        ("trial".into(), Cells::Whole(trials.iter().map(|t| t.id).collect())),
        ("state".into(), text(&|t| t.state.name().into())),
        ("origin".into(), text(&|t| t.origin.clone())),
        ("seed".into(), text(&|t| t.seed.to_string())),
        ("seconds".into(), Cells::Numbers(trials.iter().map(|t| t.seconds).collect())),
    ];
    columns.extend(keys.into_iter().map(|key| (key.clone(), text(&|t| t.recipe.get(key).cloned().unwrap_or_default()))));
    columns.extend(
        figures
            .into_iter()
            .map(|name| (name.clone(), Cells::Numbers(trials.iter().map(|t| t.figures.get(name).copied()).collect()))),
    );
    columns.push(("text".into(), text(&|t| t.text.clone())));
    write_table(columns, to).map_err(|e| SweepError::Table(e.to_string()))
}
