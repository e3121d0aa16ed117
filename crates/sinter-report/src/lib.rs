//! What a run tells afterwards: tables (polars), charts (plotters), one self-contained HTML page, and the comparison of runs.
//!
//! Everything is drawn from a [`RunRecord`], which `run.json` holds: an old run can be drawn again without running it.

mod certificate;
mod certified;
mod chart;
mod charts;
mod compare;
mod dense;
mod error;
mod frame;
mod judged;
mod markdown;
mod metric_field;
mod page;
mod quality;
mod record;
mod samples;
mod scroll;
mod style;
mod tables;
mod tiles;

pub use certificate::{CertificateRow, CertificateTable};
pub use chart::shorten;
pub use compare::{
    Apart, Cell, Column, Comparison, Details, Found, Kind, MOST_ROWS, Row, Run, Scale, Table, address, compare_runs, find_runs,
    link, run_folders, write_comparison,
};
pub use error::ReportError;
pub use frame::frame;
pub use quality::{Figure, LostRow, MeasuredRow, QualityRow};
pub use record::{
    ArtifactRow, BoardRow, BudgetRow, CurveRow, LayerRow, NpuRow, RangeRow, RunRecord, SensitivityRow, StageRow, WeightsRow,
};
pub use samples::Samples;
pub use tables::{Cells, write_table, write_tables};
pub use tiles::{Tile, draw_tiles};

use std::path::Path;

/// Writes tables, charts, Markdown and page of a run into its folder. `report.html` comes last: where it is, all is.
pub fn write_report(record: &RunRecord, folder: &Path) -> Result<(), ReportError> {
    write_tables(record, folder)?;
    let charts = charts::of_run(record)?;
    for chart in &charts {
        sinter_model::write_whole(&folder.join(format!("charts/{}.svg", chart.name)), chart.svg.as_bytes())?;
        sinter_model::write_whole(&folder.join(format!("charts/{}.png", chart.name)), &chart.png)?;
    }
    sinter_model::write_whole(&folder.join("report.md"), markdown::of_run(record).as_bytes())?;
    let page = page::of_run(record, &charts);
    sinter_model::write_whole(&folder.join("report.html"), page.as_bytes())?;
    Ok(())
}
