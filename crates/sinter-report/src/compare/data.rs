//! What the page's script works with.

use serde_json::{Value, json};
use sinter_task::{Better, Unit};

use super::importance::{self, Importance};
use super::{Column, Comparison, MOST_ROWS, Scale};

/// As JSON that may stand within a page: no `<` is left in it.
pub(super) fn of(all: &Comparison) -> String {
    let importance: Vec<Importance> = importance::of(all);
    let numeric: Vec<bool> = (0..all.columns.len()).map(|i| all.is_numeric(i)).collect();
    let rows = all.rows.iter().take(MOST_ROWS).map(|row| {
        // What is a number here and a text there is a text.
        let cells = row.cells.iter().enumerate().map(|(i, cell)| match (numeric[i], cell.value) {
            (true, value) => json!(value),
            (false, _) if cell.text.is_empty() => Value::Null,
            (false, _) => json!(cell.text),
        });
        json!({ "name": row.name, "link": row.link, "cells": cells.collect::<Vec<_>>(), "curves": row.curves, "details": row.details })
    });
    let data = json!({
        "columns": all.columns.iter().enumerate().map(|(i, c)| column(c, in_percent(all, i))).collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
        "importance": importance,
        "apart": all.apart,
    });
    data.to_string().replace('<', "\\u003c")
}

/// Whether a column's numbers are all written in percent.
fn in_percent(all: &Comparison, column: usize) -> bool {
    let mut texts = all.rows.iter().map(|r| r.cells[column].text.as_str()).filter(|text| !text.is_empty()).peekable();
    all.is_numeric(column) && texts.peek().is_some() && texts.all(|text| text.ends_with('%'))
}

fn column(column: &Column, in_percent: bool) -> Value {
    let scale = match &column.scale {
        Scale::Plain if in_percent => "percent",
        Scale::Plain => "plain",
        Scale::Metric(metric) if metric.unit == Unit::Percent => "percent",
        Scale::Metric(_) => "plain",
        Scale::Bytes => "bytes",
        Scale::Joules => "joules",
        Scale::Seconds => "seconds",
    };
    let kind = column.kind.name();
    let better = column.better.map(|b| match b {
        Better::Higher => "higher",
        Better::Lower => "lower",
    });
    let is_metric = column.better.is_some() && matches!(column.scale, Scale::Metric(_));
    json!({ "name": column.name, "key": column.key, "kind": kind, "scale": scale, "better": better, "metric": is_metric, "shown": column.shown })
}
