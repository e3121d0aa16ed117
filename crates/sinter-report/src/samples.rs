//! What became of each sample of the test split: `samples.csv`, by which two runs are compared sample by sample.

use std::path::Path;

use polars::prelude::{DataFrame, PolarsError, df};
use serde::Deserialize;
use sinter_task::Alone;

use crate::error::ReportError;
use crate::tables::write;

/// What the float model and the result come to on each sample, in the order of the test split, by the leading metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Of the float model; `None` where a sample has no value of its own.
    pub float: Vec<Option<Alone>>,
    /// Of the result, in its runtime.
    pub result: Vec<Option<Alone>>,
}

/// A row of the table.
#[derive(Deserialize)]
struct Line {
    label: Option<u32>,
    float_class: Option<u32>,
    result_class: Option<u32>,
    float_value: Option<f64>,
    result_value: Option<f64>,
}

impl Samples {
    /// Writes the table into a run's folder, as .csv and .parquet; nothing where no sample has a value of its own.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        match self.float.iter().chain(&self.result).all(Option::is_none) {
            true => Ok(()),
            false => write("samples", self.table(), folder),
        }
    }

    /// The table of a run; `None` where it has none, or one that can't be read.
    pub fn read(folder: &Path) -> Option<Self> {
        let mut table = csv::Reader::from_path(folder.join("samples.csv")).ok()?;
        let mut samples = Self::default();
        for line in table.deserialize() {
            let line: Line = line.ok()?;
            let alone = |value: Option<f64>, class: Option<u32>| Some(Alone { value: value?, classes: line.label.zip(class) });
            samples.float.push(alone(line.float_value, line.float_class));
            samples.result.push(alone(line.result_value, line.result_class));
        }
        Some(samples)
    }

    fn table(&self) -> Result<DataFrame, PolarsError> {
        let classes =
            |all: &[Option<Alone>]| -> Vec<Option<(u32, u32)>> { all.iter().map(|a| a.and_then(|a| a.classes)).collect() };
        let (float, result) = (classes(&self.float), classes(&self.result));
        let predicted =
            |all: &[Option<(u32, u32)>]| -> Vec<Option<u32>> { all.iter().map(|c| c.map(|(_, said)| said)).collect() };
        let values = |all: &[Option<Alone>]| -> Vec<Option<f64>> { all.iter().map(|a| a.map(|a| a.value)).collect() };
        df![
            "sample" => (0..self.result.len() as u32).collect::<Vec<_>>(),
            "label" => result.iter().map(|c| c.map(|(label, _)| label)).collect::<Vec<_>>(),
            "float_class" => predicted(&float),
            "result_class" => predicted(&result),
            "float_value" => values(&self.float),
            "result_value" => values(&self.result),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let of = |value, class| Some(Alone { value, classes: Some((3, class)) });
        let plain = |value| Some(Alone { value, classes: None });
        for samples in [
            Samples { float: vec![of(1.0, 3), of(0.0, 2)], result: vec![of(0.0, 1), of(1.0, 3)] },
            Samples { float: vec![plain(0.25), None], result: vec![plain(0.5), plain(0.125)] },
        ] {
            samples.write(folder.path()).unwrap();
            assert_eq!(Samples::read(folder.path()), Some(samples));
        }
        let nothing = tempfile::tempdir().unwrap();
        Samples { float: vec![None], result: vec![None] }.write(nothing.path()).unwrap();
        assert_eq!(Samples::read(nothing.path()), None);
        std::fs::write(nothing.path().join("samples.csv"), "label\nno number\n").unwrap();
        assert_eq!(Samples::read(nothing.path()), None);
    }
}
