//! Why a report was not written or read.

use std::path::PathBuf;

use sinter_model::WriteError;

/// Why a report was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A table could not be made.
    #[error("table {table}: {source}")]
    Table {
        /// Which table.
        table: &'static str,
        /// What went wrong.
        source: polars::error::PolarsError,
    },
    /// A chart could not be drawn.
    #[error("chart {chart}: {reason}")]
    Chart {
        /// Which chart.
        chart: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no record of a run.
    #[error("{path} is no run: {reason}")]
    NoRun {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
