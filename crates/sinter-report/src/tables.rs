//! The tables of a run, as CSV for people and Parquet for programs.

use std::io::Cursor;
use std::path::Path;

use polars::prelude::{Column, CsvWriter, DataFrame, ParquetWriter, PolarsError, SerWriter, df};
use sinter_model::write_whole;

use crate::error::ReportError;
use crate::quality::QualityRow;
use crate::record::{LayerRow, RunRecord, StageRow};

/// Writes `stages` and `layers` (`curves` when anything was trained, `sensitivity` when it was scanned, `quality` when it was measured, `ranges` when values were quantized)
/// as .csv and .parquet.
pub fn write_tables(record: &RunRecord, folder: &Path) -> Result<(), ReportError> {
    write("stages", stages(record), folder)?;
    write("layers", layers(record), folder)?;
    if !record.curves.is_empty() {
        write("curves", curves(record), folder)?;
    }
    if !record.sensitivity.is_empty() {
        write("sensitivity", sensitivity(record), folder)?;
    }
    if !record.quality.is_empty() {
        write("quality", quality(record), folder)?;
    }
    if !record.ranges.is_empty() {
        write("ranges", ranges(record), folder)?;
    }
    Ok(())
}

pub(crate) fn write(table: &'static str, frame: Result<DataFrame, PolarsError>, folder: &Path) -> Result<(), ReportError> {
    let fail = |source| ReportError::Table { table, source };
    let mut frame = frame.map_err(fail)?;
    let mut csv = Vec::new();
    CsvWriter::new(&mut csv).finish(&mut frame).map_err(fail)?;
    write_whole(&folder.join(format!("{table}.csv")), &csv)?;
    let mut parquet = Cursor::new(Vec::new());
    ParquetWriter::new(&mut parquet).finish(&mut frame).map_err(fail)?;
    write_whole(&folder.join(format!("{table}.parquet")), parquet.get_ref())?;
    Ok(())
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Numbers, some of which may be missing.
    Numbers(Vec<Option<f64>>),
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

/// Writes a table of named columns of one length, as Parquet where the file's name ends so, else as CSV.
pub fn write_table(columns: Vec<(String, Cells)>, to: &Path) -> Result<(), ReportError> {
    let fail = |source| ReportError::Table { table: "trials", source };
    let columns = columns.into_iter().map(|(name, cells)| match cells {
        Cells::Numbers(numbers) => Column::new(name.into(), numbers),
        Cells::Whole(numbers) => Column::new(name.into(), numbers),
        Cells::Texts(texts) => Column::new(name.into(), texts),
    });
    let columns: Vec<Column> = columns.collect();
    let mut frame = DataFrame::new(columns.first().map_or(0, Column::len), columns).map_err(fail)?;
    let mut bytes = Cursor::new(Vec::new());
    match to.extension().is_some_and(|e| e == "parquet") {
        true => ParquetWriter::new(&mut bytes).finish(&mut frame).map(drop).map_err(fail)?,
        false => CsvWriter::new(&mut bytes).finish(&mut frame).map_err(fail)?,
    }
    write_whole(to, bytes.get_ref())?;
    Ok(())
}

fn stages(record: &RunRecord) -> Result<DataFrame, PolarsError> {
    fn column<T>(record: &RunRecord, get: impl Fn(&StageRow) -> T) -> Vec<T> {
        record.stages.iter().map(get).collect()
    }
    df![
        "index" => column(record, |s| s.index as u32),
        "stage" => column(record, |s| s.stage.clone()),
        "what" => column(record, |s| s.what.clone()),
        "cached" => column(record, |s| s.cached),
        "seconds" => column(record, |s| s.seconds),
        "packed_bytes" => column(record, |s| s.packed_bytes),
        "onnx_float_bytes" => column(record, |s| s.onnx_float_bytes),
        "parameters" => column(record, |s| s.parameters),
        "nonzero" => column(record, |s| s.nonzero),
        "macs" => column(record, |s| s.macs),
        "metric" => column(record, |_| record.metric.name.to_string()),
        "value" => column(record, |s| s.value),
        "top5" => column(record, |s| s.top5),
        "energy_floor_joules_estimate" => column(record, |s| s.energy_floor),
        "energy_low_joules_estimate" => column(record, |s| s.energy_low),
        "energy_middle_joules_estimate" => column(record, |s| s.energy_middle),
        "energy_high_joules_estimate" => column(record, |s| s.energy_high),
        "latency_low_seconds_estimate" => column(record, |s| s.latency_low),
        "latency_middle_seconds_estimate" => column(record, |s| s.latency_middle),
        "latency_high_seconds_estimate" => column(record, |s| s.latency_high),
        "ram_bytes_estimate" => column(record, |s| s.ram),
        "flash_bytes_estimate" => column(record, |s| s.flash),
    ]
}

fn layers(record: &RunRecord) -> Result<DataFrame, PolarsError> {
    fn column<T>(record: &RunRecord, get: impl Fn(&LayerRow) -> T) -> Vec<T> {
        record.layers.iter().map(get).collect()
    }
    df![
        "stage_index" => column(record, |l| l.stage_index as u32),
        "stage" => column(record, |l| l.stage.clone()),
        "layer" => column(record, |l| l.layer.clone()),
        "kind" => column(record, |l| l.kind.clone()),
        "shape" => column(record, |l| l.shape.clone()),
        "parameters" => column(record, |l| l.parameters),
        "sparsity" => column(record, |l| l.sparsity),
        "encoding" => column(record, |l| l.encoding.clone()),
        "bits" => column(record, |l| l.bits),
        "macs" => column(record, |l| l.macs),
        "packed_bytes" => column(record, |l| l.packed_bytes),
    ]
}

fn quality(record: &RunRecord) -> Result<DataFrame, PolarsError> {
    fn column<T>(record: &RunRecord, get: impl Fn(&QualityRow) -> T) -> Vec<T> {
        record.quality.iter().map(get).collect()
    }
    let end = |interval: Option<(f64, f64)>, high: bool| interval.map(|(a, b)| if high { b } else { a });
    df![
        "metric" => column(record, |q| q.metric.name.to_string()),
        "float" => column(record, |q| q.float.map(|f| f.value)),
        "float_low" => column(record, |q| end(q.float.and_then(|f| f.interval), false)),
        "float_high" => column(record, |q| end(q.float.and_then(|f| f.interval), true)),
        "result" => column(record, |q| q.result.value),
        "result_low" => column(record, |q| end(q.result.interval, false)),
        "result_high" => column(record, |q| end(q.result.interval, true)),
        "lost_low" => column(record, |q| q.lost.map(|l| l.low)),
        "lost_high" => column(record, |q| q.lost.map(|l| l.high)),
        "p" => column(record, |q| q.lost.map(|l| l.p)),
        "runtime" => column(record, |q| q.runtime.clone()),
        "samples" => column(record, |q| q.samples as u32),
    ]
}

fn curves(record: &RunRecord) -> Result<DataFrame, PolarsError> {
    df![
        "stage" => record.curves.iter().map(|c| c.stage.clone()).collect::<Vec<_>>(),
        "epoch" => record.curves.iter().map(|c| c.epoch as u32).collect::<Vec<_>>(),
        "loss" => record.curves.iter().map(|c| c.loss).collect::<Vec<_>>(),
        "validation" => record.curves.iter().map(|c| c.value).collect::<Vec<_>>(),
        "seconds" => record.curves.iter().map(|c| c.seconds).collect::<Vec<_>>(),
    ]
}

fn sensitivity(record: &RunRecord) -> Result<DataFrame, PolarsError> {
    df![
        "stage" => record.sensitivity.iter().map(|s| s.stage.clone()).collect::<Vec<_>>(),
        "layer" => record.sensitivity.iter().map(|s| s.layer.clone()).collect::<Vec<_>>(),
        "probe" => record.sensitivity.iter().map(|s| if s.bits { "bits" } else { "share" }).collect::<Vec<_>>(),
        "at" => record.sensitivity.iter().map(|s| s.at).collect::<Vec<_>>(),
        "lost" => record.sensitivity.iter().map(|s| s.lost).collect::<Vec<_>>(),
    ]
}

fn ranges(record: &RunRecord) -> Result<DataFrame, PolarsError> {
    df![
        "value" => record.ranges.iter().map(|r| r.value.clone()).collect::<Vec<_>>(),
        "bits" => record.ranges.iter().map(|r| u32::from(r.bits)).collect::<Vec<_>>(),
        "scale" => record.ranges.iter().map(|r| r.scale).collect::<Vec<_>>(),
        "zero_point" => record.ranges.iter().map(|r| r.zero_point).collect::<Vec<_>>(),
        "low" => record.ranges.iter().map(|r| r.low).collect::<Vec<_>>(),
        "high" => record.ranges.iter().map(|r| r.high).collect::<Vec<_>>(),
        "seen_low" => record.ranges.iter().map(|r| r.seen_low).collect::<Vec<_>>(),
        "seen_high" => record.ranges.iter().map(|r| r.seen_high).collect::<Vec<_>>(),
    ]
}
