//! Where samples come from: one file a kind.

mod columns;
mod csv_table;
mod files;
mod idx;
mod images;
mod numpy;
mod text;
mod wav;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use sinter_model::memory_limit;

use crate::config::{DataConfig, SourceConfig};
use crate::error::DataError;
use crate::task::{Labels, Task};

pub use csv_table::header;
pub use numpy::{ArrayFacts, arrays};

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
        SourceConfig::Text(c) => text::find(c, config.task, config.split.test),
    }
}

/// The bytes of a file, unzipped where it is a gzip stream.
fn unzipped(path: &Path) -> Result<Vec<u8>, DataError> {
    let packed = std::fs::read(path).map_err(DataError::read(path))?;
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Ok(packed);
    }
    // A small file may unpack to more than the machine has.
    let limit = memory_limit();
    let mut out = Vec::new();
    let read = MultiGzDecoder::new(&packed[..]).take(limit.0.saturating_add(1)).read_to_end(&mut out);
    read.map_err(|e| DataError::format(path, format!("the gzip stream is damaged: {e}")))?;
    if out.len() as u64 > limit.0 {
        let reason = format!("it unpacks to more than {limit}: raise that with --memory where it is meant");
        return Err(DataError::format(path, reason));
    }
    Ok(out)
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

/// Labels are numbers of classes; whoever has more of them than this has passed something else as labels.
pub(crate) const MOST_CLASSES: f64 = 1e6;

/// Samples with labels of any shape beside them.
pub(crate) struct WithTargets {
    samples: Arc<dyn Samples>,
    targets: Column,
}

impl WithTargets {
    /// Labels of `shape` for a sample, one after the other; and the largest class, where they are classes. Errors, with the sample, on a label that the task
    /// does not take.
    pub fn beside(
        samples: Arc<dyn Samples>,
        (path, task): (&Path, Task),
        (shape, labels): (Vec<i64>, &[f64]),
    ) -> Result<(Arc<dyn Samples>, Option<i64>), DataError> {
        let asks = task.kind();
        let whole = asks.labels() == Labels::Whole;
        let ignored = |v: f64| asks.ignore().is_some_and(|i| v == i as f64);
        // What is below zero is a class of none, unless it says that it counts for nothing.
        let is_class = |v: f64| (v.fract() == 0.0 && (0.0..MOST_CLASSES).contains(&v)) || ignored(v);
        let wrong = |v: &f64| match asks.labels() {
            Labels::Class | Labels::Whole => !is_class(*v),
            Labels::Marks => !(0.0..=1.0).contains(v),
            Labels::Real => !(*v as f32).is_finite(),
        };
        if let Some(at) = labels.iter().position(wrong) {
            let each = shape.iter().product::<i64>().max(1) as usize;
            let what = match asks.labels() {
                Labels::Class | Labels::Whole => "no whole number of a class (nor the `ignore` of the task)",
                Labels::Marks => "not from 0 to 1 (`task: regress` takes any number)",
                Labels::Real => "not finite",
            };
            return Err(DataError::format(path, format!("a label of sample {} is {}, {what}", at / each, labels[at])));
        }
        let most = labels.iter().filter(|v| whole && !ignored(**v)).map(|v| *v as i64).max();
        let values = match whole {
            true => Values::Whole(labels.iter().map(|v| *v as i64).collect()),
            false => Values::Real(labels.iter().map(|v| *v as f32).collect()),
        };
        Ok((Arc::new(Self { samples, targets: Column { input: String::new(), shape, values } }), most))
    }
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
