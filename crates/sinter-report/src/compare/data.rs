//! What the page's script works with.

use serde_json::{Value, json};
use sinter_task::{Better, Unit};

use super::importance::{self, Importance};
use super::{Column, Comparison, Kind, MOST_ROWS, Scale};

/// As JSON that may stand within a page: no `<` is left in it.
pub(super) fn of(all: &Comparison) -> String {
    let importance: Vec<Importance> = importance::of(all);
    let rows = all.rows.iter().take(MOST_ROWS).map(|row| {
        let cells = row.cells.iter().enumerate().map(|(i, cell)| match (cell.value, all.columns[i].kind) {
            // A key that is a number here and a text there is a text.
            (Some(v), kind) if kind != Kind::Recipe || all.is_numeric(i) => json!(v),
            _ if cell.text.is_empty() => Value::Null,
            _ => json!(cell.text),
        });
        json!({ "name": row.name, "link": row.link, "cells": cells.collect::<Vec<_>>(), "curves": row.curves, "details": row.details })
    });
    let data = json!({
        "columns": all.columns.iter().map(column).collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
        "importance": importance,
        "apart": all.apart,
    });
    data.to_string().replace('<', "\\u003c")
}

fn column(column: &Column) -> Value {
    let scale = match &column.scale {
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
