//! Why a report was not written or read.

use std::path::PathBuf;

use sinter_model::WriteError;

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("table {table}: {source}")]
    Table { table: &'static str, source: polars::error::PolarsError },
    #[error("compare.csv: {0}")]
    Comparison(String),
    #[error("chart {chart}: {reason}")]
    Chart { chart: String, reason: String },
    #[error("{path} is no run: {reason}")]
    NoRun { path: PathBuf, reason: String },
}
