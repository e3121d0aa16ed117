//! Recipes side by side, be they runs of pipelines or trials of a sweep: one table of columns and rows, from which everything is drawn that a page
//! shows of them, its file of values too.

mod apart;
mod data;
mod details;
mod find;
mod importance;
mod page;
mod pictures;
mod runs;

pub use apart::Apart;
pub use details::Details;
pub use find::{Found, Run, find_runs, run_folders};
pub use runs::{address, compare_runs, link, write_comparison};

use std::collections::BTreeMap;
use std::path::Path;

use sinter_model::write_whole;
use sinter_task::{Better, Metric};

use crate::chart::Chart;
use crate::error::ReportError;
use crate::tables::{Cells, write_table};

/// Rows of a table that a browser still sorts at once; of more, the first are shown.
pub const MOST_ROWS: usize = 2_000;

/// Many recipes, and what they come to.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// What is compared.
    pub title: String,
    /// The answer in one line.
    pub answer: String,
    /// What there is to know of each.
    pub columns: Vec<Column>,
    /// The best first, where there is an order.
    pub rows: Vec<Row>,
    /// What is to be said below the table.
    pub notes: Vec<String>,
    /// Further tables, each a section.
    pub tables: Vec<Table>,
    /// How far the rows answer each other's samples otherwise, where that is known.
    pub apart: Option<Apart>,
}

/// What a column holds.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in a file.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// What it tells.
    pub kind: Kind,
    /// How its numbers are written along an axis.
    pub scale: Scale,
    /// Which way is better, where one is.
    pub better: Option<Better>,
    /// Whether it is shown before anybody chose columns.
    pub shown: bool,
}

/// What a column tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Which recipe it is, and how it stands.
    About,
    /// What was chosen.
    Recipe,
    /// What came of it.
    Figure,
}

impl Kind {
    /// Its name in files.
    fn name(self) -> &'static str {
        match self {
            Self::About => "about",
            Self::Recipe => "recipe",
            Self::Figure => "figure",
        }
    }
}

/// How numbers are written along an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// As they are; texts too.
    Plain,
    /// As the metric has them.
    Metric(Metric),
    /// Bytes.
    Bytes,
    /// Joules.
    Joules,
    /// Seconds.
    Seconds,
}

/// One recipe.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its name among the others.
    pub name: String,
    /// Where its own page is.
    pub link: Option<String>,
    /// One a column.
    pub cells: Vec<Cell>,
    /// What it came to on the way: `training loss` and the like, each a step and a value.
    pub curves: BTreeMap<String, Vec<(f64, f64)>>,
    /// What only two side by side show.
    pub details: Option<Details>,
}

/// A value of a column: a number with its text, a text alone, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// In the column's unit; `None` for texts, where nothing is known, and for what is no finite number.
    pub value: Option<f64>,
    /// As people read it; empty where nothing is known.
    pub text: String,
    /// Whether it is a number, finite or not.
    pub is_number: bool,
}

impl Cell {
    /// A number, and how it is read.
    pub fn number(value: f64, text: impl Into<String>) -> Self {
        Self { value: Some(value).filter(|v| v.is_finite()), text: text.into(), is_number: true }
    }

    /// A number that may be missing.
    pub fn maybe(value: Option<f64>, text: impl FnOnce(f64) -> String) -> Self {
        value.map_or_else(Self::default, |v| Self::number(v, text(v)))
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { value: None, text: text.into(), is_number: false }
    }

    /// What a recipe file says: `60%` and `4` are numbers, `int8` is none.
    pub fn of_recipe(text: &str) -> Self {
        let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |share| (share, 0.01));
        let value = number.trim().parse::<f64>().ok().filter(|v| v.is_finite()).map(|v| v * unit);
        Self { value, text: text.into(), is_number: value.is_some() }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// A table of texts under a heading.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// As many texts a row as there are columns.
    pub rows: Vec<Vec<String>>,
    /// Below it.
    pub note: String,
}

impl Comparison {
    /// Whether every value of a column that is there is a number.
    fn is_numeric(&self, column: usize) -> bool {
        let mut there = self.rows.iter().map(|r| &r.cells[column]).filter(|c| !c.is_empty()).peekable();
        there.peek().is_some() && there.all(|c| c.is_number)
    }

    /// Leaves out columns in which nothing stands, and recipe columns in which all is alike: both tell nothing.
    pub fn tidy(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let told = |i: usize, column: &Column| {
            let mut texts = self.rows.iter().map(|r| r.cells[i].text.as_str());
            let first = texts.next().unwrap_or("");
            match column.kind {
                Kind::Recipe => texts.any(|t| t != first),
                _ => !first.is_empty() || texts.any(|t| !t.is_empty()),
            }
        };
        let keep: Vec<bool> = self.columns.iter().enumerate().map(|(i, column)| told(i, column)).collect();
        let mut kept = keep.iter();
        self.columns.retain(|_| *kept.next().unwrap_or(&true));
        for row in &mut self.rows {
            let mut kept = keep.iter();
            row.cells.retain(|_| *kept.next().unwrap_or(&true));
        }
    }

    /// The page as HTML; everything that it needs lies within it.
    pub fn page(&self) -> Result<String, ReportError> {
        Ok(page::of(self, &pictures::of(self)?))
    }

    /// Writes the page, the values and the charts into a folder: `NAME.html`, `NAME.csv`, and `NAME.svg` and `.png` for quality against size.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), ReportError> {
        let charts: Vec<Chart> = pictures::of(self)?;
        for left in pictures::NAMES.iter().filter(|picture| !charts.iter().any(|c| c.name == **picture)) {
            for ending in ["svg", "png"] {
                // Of an earlier comparison, which had such a figure.
                let _none = std::fs::remove_file(folder.join(format!("{}.{ending}", left.replacen("compare", name, 1))));
            }
        }
        for chart in &charts {
            let file = chart.name.replacen("compare", name, 1);
            write_whole(&folder.join(format!("{file}.svg")), chart.svg.as_bytes())?;
            write_whole(&folder.join(format!("{file}.png")), &chart.png)?;
        }
        write_table(self.values(), &folder.join(format!("{name}.csv")))?;
        write_whole(&folder.join(format!("{name}.html")), page::of(self, &charts).as_bytes())?;
        Ok(())
    }

    /// All values, a column each.
    fn values(&self) -> Vec<(String, Cells)> {
        let each = |i: usize| self.rows.iter().map(move |r| &r.cells[i]);
        let column = |i: usize| match self.is_numeric(i) {
            true => Cells::Numbers(each(i).map(|c| c.value).collect()),
            false => Cells::Texts(each(i).map(|c| c.text.clone()).collect()),
        };
        let mut all: Vec<(String, Cells)> = Vec::new();
        for (i, c) in self.columns.iter().enumerate() {
            // A key of a recipe may be called as a figure is.
            let names = [c.key.clone(), format!("{}.{}", c.kind.name(), c.key), format!("{}.{}.{i}", c.kind.name(), c.key)];
            let free = names.into_iter().find(|name| !all.iter().any(|(taken, _)| taken == name));
            all.push((free.unwrap_or_else(|| i.to_string()), column(i)));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_numbers_where_they_look_so() {
        assert_eq!(Cell::of_recipe("60%").value, Some(0.6));
        assert_eq!(Cell::of_recipe("1e-3").value, Some(1e-3));
        for text in ["int8", "2:4", "nan", "true", "%", ""] {
            assert_eq!(Cell::of_recipe(text).value, None, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_text() {
        let column = |key: &str| Column {
            key: key.into(),
            name: key.into(),
            kind: Kind::Figure,
            scale: Scale::Plain,
            better: None,
            shown: true,
        };
        let row = |value: f64| Row { cells: vec![Cell::number(value, format!("{value}"))], ..Row::default() };
        let all = Comparison { columns: vec![column("a")], rows: vec![row(1.5), row(f64::NAN)], ..Comparison::default() };
        assert_eq!(all.values(), [("a".to_string(), Cells::Numbers(vec![Some(1.5), None]))]);
        assert!(all.page().unwrap().contains("NaN"));
    }

    #[test]
    fn columns_that_tell_nothing_go() {
        let column =
            |key: &str, kind| Column { key: key.into(), name: key.into(), kind, scale: Scale::Plain, better: None, shown: true };
        let columns =
            vec![column("a", Kind::Recipe), column("b", Kind::Recipe), column("c", Kind::Figure), column("d", Kind::Figure)];
        let row = |texts: [&str; 4]| Row { cells: texts.map(Cell::of_recipe).to_vec(), ..Row::default() };
        let mut all =
            Comparison { columns, rows: vec![row(["1", "2", "3", ""]), row(["1", "3", "3", ""])], ..Comparison::default() };
        all.columns[3].key = "a".into();
        assert_eq!(all.values().iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "figure.a"]);
        all.tidy();
        assert_eq!(all.columns.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(all.rows[1].cells.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["3", "3"]);
    }
}
