//! The page of a comparison. Table, texts and pictures stand without script; with it the table filters, and charts answer.

use maud::{Markup, PreEscaped, html};
use sinter_task::Better;

use super::{Column, Comparison, MOST_ROWS, Table, data};
use crate::chart::Chart;
use crate::frame::frame_with;
use crate::page::figure;
use crate::scroll::scroll;
use crate::style::{COMPARE_CSS, SCRIPT};

/// What draws charts in the browser, with their licences in `vendor/`.
const D3: &str = include_str!("../../vendor/d3-7.9.2.min.js");
const PLOT: &str = include_str!("../../vendor/plot-0.6.17.umd.min.js");
/// Ours.
const OURS: [&str; 3] = [include_str!("script/charts.js"), include_str!("script/beside.js"), include_str!("script/filter.js")];

/// Texts that are longer stand in several lines.
const LONG: usize = 40;

pub(super) fn of(all: &Comparison, charts: &[Chart]) -> String {
    let head = html! {
        style { (PreEscaped(COMPARE_CSS)) }
        // Columns that nobody chose; the script rewrites it.
        style id="hidden" { (PreEscaped(hidden(&all.columns))) }
    };
    let body = html! {
        body.wide {
            header { h1 { "Sinter · " (all.title) } p.answer { (all.answer) } }
            main {
                section {
                    div #bar .bar hidden {}
                    (scroll("Recipes", &table(all)))
                    @for note in &all.notes { p.small { (note) } }
                    @if all.rows.len() > MOST_ROWS { p.small { "The first " (MOST_ROWS) " of " (all.rows.len()) " are shown; the file of values has all." } }
                }
                div #live hidden {}
                div #still { @for chart in charts { (figure(chart)) } }
                @for table in &all.tables { (section(table)) }
            }
            script type="application/json" id="data" { (PreEscaped(data::of(all))) }
            @for script in [SCRIPT, D3, PLOT].into_iter().chain(OURS) { script { (PreEscaped(script)) } }
        }
    };
    frame_with(&format!("{} · Sinter", all.title), &head, &body)
}

fn hidden(columns: &[Column]) -> String {
    let away = columns.iter().enumerate().filter(|(_, c)| !c.shown);
    away.map(|(i, _)| format!("#recipes tr>:nth-child({}){{display:none}}", i + 1)).collect()
}

fn table(all: &Comparison) -> Markup {
    let numeric: Vec<bool> = (0..all.columns.len()).map(|i| all.is_numeric(i)).collect();
    let long: Vec<bool> =
        (0..all.columns.len()).map(|i| all.rows.iter().any(|r| r.cells[i].text.chars().count() > LONG)).collect();
    let best: Vec<Option<f64>> = all.columns.iter().enumerate().map(|(i, column)| best(all, i, column)).collect();
    let class = |i: usize, value: Option<f64>| match (numeric[i], best[i]) {
        (true, Some(best)) if value == Some(best) => "n best",
        (true, _) => "n",
        _ if long[i] => "wrap",
        _ => "",
    };
    html! {
        table #recipes .sortable {
            thead { tr { @for (i, c) in all.columns.iter().enumerate() { th class=(if numeric[i] { "n" } else { "" }) title=(c.key) { (breakable(&c.name)) } } } }
            tbody { @for row in all.rows.iter().take(MOST_ROWS) { tr {
                @for (i, cell) in row.cells.iter().enumerate() {
                    td class=(class(i, cell.value)) data-v=[cell.value] {
                        @match (i, &row.link) { (0, Some(link)) => a href=(link) { (cell.text) }, _ => (if cell.text.is_empty() { "–" } else { &cell.text }) }
                    }
                }
            } } }
        }
    }
}

/// A key may be broken behind its dots.
fn breakable(name: &str) -> String {
    name.replace('.', ".\u{200b}")
}

/// The best value of a column in which one way is better.
fn best(all: &Comparison, i: usize, column: &Column) -> Option<f64> {
    let values = all.rows.iter().filter_map(|r| r.cells[i].value);
    let first = values.clone().next()?;
    // Where all are alike none is the best.
    values.clone().find(|v| *v != first)?;
    match column.better? {
        Better::Higher => values.max_by(f64::total_cmp),
        Better::Lower => values.min_by(f64::total_cmp),
    }
}

fn section(table: &Table) -> Markup {
    let rows = html! {
        table {
            thead { tr { @for name in &table.head { th { (name) } } } }
            tbody { @for row in &table.rows { tr { @for text in row { td.wrap { (text) } } } } }
        }
    };
    html! {
        section {
            h2 { (table.title) }
            @if !table.rows.is_empty() { (scroll(&table.title, &rows)) }
            @if !table.note.is_empty() { p.small { (table.note) } }
        }
    }
}
