//! Where samples come from: one file a kind.

mod columns;
mod csv_table;
mod files;
mod idx;
mod images;
mod numpy;
mod wav;

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::config::{DataConfig, SourceConfig};
use crate::error::DataError;
use crate::task::Labels;

pub(crate) use columns::{Column, Columns, Values};

/// Samples that can be read by index, from several threads at once.
pub(crate) trait Samples: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;
    /// The shape of one sample.
    fn shape(&self) -> &[i64];
    /// Writes sample `index`, before normalisation, into `out` (as long as the shape says).
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError>;
    /// The arrays of a model of several inputs; `None` where samples are one array.
    fn columns(&self) -> Option<&[Column]> {
        None
    }
    /// Labels that are more than a class, one row a sample.
    fn targets(&self) -> Option<&Column> {
        None
    }
    /// The class of a sample, or its anomaly flag.
    fn label(&self, index: usize) -> Option<i64>;
    /// What the values are divided by when the user does not say.
    fn default_divisor(&self) -> f32 {
        1.0
    }
}

/// A source as found on disk.
pub(crate) struct Found {
    pub train: Arc<dyn Samples>,
    /// Absent when the source must be split.
    pub test: Option<Arc<dyn Samples>>,
    /// Names of the classes, in the order of their numbers; empty when the source has none.
    pub classes: Vec<String>,
}

pub(crate) fn find(config: &DataConfig) -> Result<Found, DataError> {
    let folders = matches!(config.source, SourceConfig::Idx(_) | SourceConfig::Images(_) | SourceConfig::Wav(_));
    if folders && config.task.kind().labels() != Labels::Class {
        let reason =
            format!("`task: {}` takes labels from `numpy` or `csv`: those of this source are classes", config.task.name());
        return Err(DataError::Invalid { name: config.name.clone(), reason });
    }
    match &config.source {
        SourceConfig::Idx(c) => idx::find(c),
        SourceConfig::Numpy(c) => numpy::find(c, config.task),
        SourceConfig::Csv(c) => csv_table::find(c, config.task),
        SourceConfig::Images(c) => images::find(&config.name, c),
        SourceConfig::Wav(c) => wav::find(&config.name, c),
    }
}

/// Samples held in memory, as bytes or floats.
pub(crate) struct Held<T> {
    pub shape: Vec<i64>,
    pub values: Vec<T>,
    pub labels: Option<Vec<i64>>,
    pub divisor: f32,
}

impl<T: Copy + Into<f32> + Send + Sync> Samples for Held<T> {
    fn len(&self) -> usize {
        self.values.len() / (self.shape.iter().product::<i64>() as usize).max(1)
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        let size = out.len();
        for (o, &v) in out.iter_mut().zip(&self.values[index * size..(index + 1) * size]) {
            *o = v.into();
        }
        Ok(())
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.labels.as_ref().and_then(|l| l.get(index).copied())
    }

    fn default_divisor(&self) -> f32 {
        self.divisor
    }
}

/// Samples with labels of any shape beside them.
pub(crate) struct WithTargets {
    pub samples: Arc<dyn Samples>,
    pub targets: Column,
}

impl Samples for WithTargets {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn shape(&self) -> &[i64] {
        self.samples.shape()
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        self.samples.read(index, out)
    }

    fn columns(&self) -> Option<&[Column]> {
        self.samples.columns()
    }

    fn targets(&self) -> Option<&Column> {
        Some(&self.targets)
    }

    fn label(&self, _index: usize) -> Option<i64> {
        None
    }

    fn default_divisor(&self) -> f32 {
        self.samples.default_divisor()
    }
}

/// Errors where a value is NaN or infinite, with the first sample that holds one and the number of those that do. A sample has `each` values.
pub(crate) fn finite<T: Copy + Into<f32> + Sync>(path: &Path, values: &[T], each: usize) -> Result<(), DataError> {
    let broken = |sample: &[T]| sample.iter().map(|v| (*v).into()).find(|v: &f32| !v.is_finite());
    let mut found = values.par_chunks(each.max(1)).enumerate().filter_map(|(i, s)| Some((i, broken(s)?))).collect::<Vec<_>>();
    found.sort_unstable_by_key(|(i, _)| *i);
    let Some((index, value)) = found.first() else { return Ok(()) };
    let others = match found.len() {
        1 => "no other sample does".to_string(),
        n => format!("{n} samples hold such values"),
    };
    let what = if value.is_nan() { "NaN" } else { "an infinite value" };
    Err(DataError::format(path, format!("sample {index}, counted from 0, holds {what}; {others}: mend them or leave them out")))
}
