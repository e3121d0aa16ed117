//! NumPy arrays: .npz archives and .npy files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use npyz::{DType, NpyFile, TypeChar, npz::NpzArchive};
use sinter_model::elements;

use super::{Column, Columns, Found, Held, MOST_CLASSES, Samples, Values, WithTargets, finite};
use crate::config::NumpyConfig;
use crate::error::DataError;
use crate::task::{Labels, Task};

pub(super) fn find(config: &NumpyConfig, task: Task) -> Result<Found, DataError> {
    let load = |path: &Path| {
        let read = load(path, config, task)?;
        read.beside(path, task)
    };
    let (train, most) = load(&config.path)?;
    let (test, most_test) = match &config.test {
        Some(path) => {
            let (test, most) = load(path)?;
            (Some(test), most)
        }
        None => (None, None),
    };
    let classes = most.max(most_test).map_or(0, |m| m + 1);
    let classes = (0..classes).map(|c| c.to_string()).collect();
    Ok(Found { train, test, classes })
}

/// An array of an archive: its name, its shape, and whether its elements are whole numbers.
pub type ArrayFacts = (String, Vec<i64>, bool);

fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    File::open(path).map(BufReader::new).map_err(DataError::read(path))
}

fn archive(path: &Path) -> Result<Archive, DataError> {
    NpzArchive::new(open(path)?).map_err(|e| DataError::format(path, e))
}

/// In their order: the archive has them in one of chance.
fn names(archive: &Archive) -> Vec<&str> {
    let mut names: Vec<&str> = archive.array_names().collect();
    names.sort_unstable();
    names
}

fn is_whole(dtype: &DType) -> bool {
    matches!(dtype, DType::Plain(p) if !matches!(p.type_char(), TypeChar::Float))
}

/// What arrays an .npz archive holds; their elements are not read.
pub fn arrays(path: &Path) -> Result<Vec<ArrayFacts>, DataError> {
    let mut archive = archive(path)?;
    let names: Vec<String> = names(&archive).into_iter().map(String::from).collect();
    let mut found = Vec::new();
    for name in names {
        if let Some(npy) = archive.by_name(&name).map_err(|e| unreadable(path, &e))? {
            let whole = is_whole(&npy.dtype());
            found.push((name, npy.shape().iter().map(|&n| n as i64).collect(), whole));
        }
    }
    Ok(found)
}

/// The arrays of one archive, one for each input of a model.
fn load_columns(path: &Path, config: &NumpyConfig, task: Task) -> Result<Loaded, DataError> {
    if path.extension().is_none_or(|e| e != "npz") {
        return Err(DataError::format(path, "`inputs` names arrays of an .npz archive, and this is none"));
    }
    let mut archive = archive(path)?;
    let mut columns: Vec<Column> = Vec::new();
    let mut count = None;
    for (input, name) in &config.inputs {
        let absent = missing(&archive, path, name);
        let npy = archive.by_name(name).map_err(|e| unreadable(path, &e))?.ok_or(absent)?;
        let whole = is_whole(&npy.dtype());
        let (dims, values) = match whole {
            true => array(npy, path, |v| v as i64).map(|(dims, v)| (dims, Values::Whole(v)))?,
            false => array(npy, path, |v| v as f32).map(|(dims, v)| (dims, Values::Real(v)))?,
        };
        let Some((&samples, shape)) = dims.split_first().filter(|(_, shape)| !shape.contains(&0)) else {
            return Err(DataError::format(path, format!("array `{name}` has no axis of samples: its shape is {dims:?}")));
        };
        if *count.get_or_insert(samples) != samples {
            let first = &columns[0].input;
            let reason = format!("array `{name}` holds {samples} samples, that of `{first}` {}", count.unwrap_or(0));
            return Err(DataError::format(path, reason));
        }
        if let Values::Real(values) = &values {
            finite(path, values, values.len() / (samples as usize).max(1))?;
        }
        columns.push(Column { input: input.clone(), shape: shape.to_vec(), values });
    }
    let count = count.unwrap_or(0);
    let marks = marks(&mut archive, path, config)?;
    let (labels, marks) = labels(path, marks, count, task)?;
    Ok(Loaded { samples: Arc::new(Columns { columns, labels: labels.clone(), count: count as usize }), labels, marks })
}

/// Samples as they were read.
struct Loaded {
    samples: Arc<dyn Samples>,
    /// Numbers of classes.
    labels: Option<Vec<i64>>,
    /// Labels that are more than that.
    marks: Option<Marks>,
}

impl Loaded {
    /// The samples with their labels, and the largest number of a class.
    fn beside(self, path: &Path, task: Task) -> Result<(Arc<dyn Samples>, Option<i64>), DataError> {
        let Some((dims, marks)) = self.marks else {
            return Ok((self.samples, self.labels.iter().flatten().max().copied()));
        };
        WithTargets::beside(self.samples, (path, task), (dims[1..].to_vec(), &marks))
    }
}

type Archive = NpzArchive<BufReader<File>>;
/// A shape, and elements.
type Marks = (Vec<i64>, Vec<f64>);

fn missing(archive: &Archive, path: &Path, name: &str) -> DataError {
    DataError::format(path, format!("no array `{name}`; it holds {}", names(archive).join(", ")))
}

/// The labels of an archive; `None` where it has none and nobody named them.
fn marks(archive: &mut Archive, path: &Path, config: &NumpyConfig) -> Result<Option<Marks>, DataError> {
    let label = config.labels.as_ref().map_or("y".into(), |l| l.to_string_lossy().into_owned());
    let absent = missing(archive, path, &label);
    match archive.by_name(&label).map_err(|e| unreadable(path, &e))? {
        Some(npy) => array(npy, path, |v| v).map(Some),
        None if config.labels.is_some() => Err(absent),
        None => Ok(None),
    }
}

/// Labels as numbers of classes, one for each sample, or as they are where the task takes more than that.
fn labels(path: &Path, marks: Option<Marks>, count: i64, task: Task) -> Result<(Option<Vec<i64>>, Option<Marks>), DataError> {
    match marks {
        Some(marks) if task.kind().labels() != Labels::Class && marks.0.first() == Some(&count) => Ok((None, Some(marks))),
        Some((dims, marks)) if dims == [count] => Ok((Some(classes(path, &marks)?), None)),
        Some((dims, _)) => {
            let other = match task.kind().labels() {
                Labels::Class => {
                    format!(": `task: {}` takes one for each; others (segment, regress, multi-label) take more", task.name())
                }
                _ => String::new(),
            };
            Err(DataError::format(path, format!("labels of shape {dims:?} for {count} samples{other}")))
        }
        None => Ok((None, None)),
    }
}

/// The samples of one file.
fn load(path: &Path, config: &NumpyConfig, task: Task) -> Result<Loaded, DataError> {
    if !config.inputs.is_empty() {
        return load_columns(path, config, task);
    }
    let (x, y) = if path.extension().is_some_and(|e| e == "npz") {
        let mut archive = archive(path)?;
        let absent = missing(&archive, path, &config.samples);
        let x = match archive.by_name(&config.samples).map_err(|e| unreadable(path, &e))? {
            Some(npy) => Stored::read(npy, path)?,
            None => return Err(absent),
        };
        (x, marks(&mut archive, path, config)?)
    } else {
        let file = |path: &Path| NpyFile::new(open(path)?).map_err(|e| unreadable(path, &e));
        let labels = config.labels.as_deref().map(|l| array(file(l)?, l, |v| v)).transpose()?;
        (Stored::read(file(path)?, path)?, labels)
    };
    let (dims, stored) = x;
    let Some((&count, shape)) = dims.split_first().filter(|(_, shape)| !shape.is_empty() && !shape.contains(&0)) else {
        let reason = format!("samples need an axis before those of one sample, and something in each; the shape is {dims:?}");
        return Err(DataError::format(path, reason));
    };
    let (labels, marks) = labels(path, y, count, task)?;
    let samples = stored.hold(path, count, shape.to_vec(), labels.clone())?;
    Ok(Loaded { samples, labels, marks })
}

/// Samples in the type that they came in, so that bytes stay bytes.
enum Stored {
    Bytes(Vec<u8>),
    Short(Vec<i16>),
    Half(Vec<half::f16>),
    Real(Vec<f32>),
}

impl Stored {
    /// Their shape, and the samples.
    fn read<R: Read>(npy: NpyFile<R>, path: &Path) -> Result<(Vec<i64>, Self), DataError> {
        let kind = match npy.dtype() {
            DType::Plain(plain) => (Some(plain.type_char()), plain.num_bytes()),
            _ => (None, None),
        };
        Ok(match kind {
            (Some(TypeChar::Uint), Some(1)) | (Some(TypeChar::Bool), _) => {
                array(npy, path, |v| v as u8).map(|(dims, v)| (dims, Self::Bytes(v)))?
            }
            (Some(TypeChar::Int), Some(1 | 2)) => array(npy, path, |v| v as i16).map(|(dims, v)| (dims, Self::Short(v)))?,
            (Some(TypeChar::Float), Some(2)) => array(npy, path, half::f16::from_f64).map(|(dims, v)| (dims, Self::Half(v)))?,
            _ => array(npy, path, |v| v as f32).map(|(dims, v)| (dims, Self::Real(v)))?,
        })
    }

    /// As a source of `count` samples. Errors on what is not finite.
    fn hold(self, path: &Path, count: i64, shape: Vec<i64>, labels: Option<Vec<i64>>) -> Result<Arc<dyn Samples>, DataError> {
        let divisor = 1.0;
        let each = |len: usize| len / (count as usize).max(1);
        Ok(match self {
            Self::Bytes(values) => Arc::new(Held { shape, values, labels, divisor }),
            Self::Short(values) => Arc::new(Held { shape, values, labels, divisor }),
            Self::Half(values) => {
                finite(path, &values, each(values.len()))?;
                Arc::new(Held { shape, values, labels, divisor })
            }
            Self::Real(values) => {
                finite(path, &values, each(values.len()))?;
                Arc::new(Held { shape, values, labels, divisor })
            }
        })
    }
}

/// Labels as numbers of classes. Errors, with the place, on what is none.
fn classes(path: &Path, marks: &[f64]) -> Result<Vec<i64>, DataError> {
    let each = marks.iter().enumerate().map(|(i, &v)| match v.fract() == 0.0 && (0.0..MOST_CLASSES).contains(&v) {
        true => Ok(v as i64),
        false => {
            Err(DataError::format(path, format!("the label of sample {i} is {v}, no number of a class (0, 1, 2 and so on)")))
        }
    });
    each.collect()
}

/// Why npyz could not read, with what a user can do about it.
fn unreadable(path: &Path, error: &std::io::Error) -> DataError {
    let said = error.to_string();
    let reason = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the file ends too early: it was cut off".to_string(),
        _ => said,
    };
    DataError::format(path, reason)
}

/// The shape and the elements as `cast` makes them, in C order whatever order they lie in.
fn array<R: Read, T: Copy>(npy: NpyFile<R>, path: &Path, cast: fn(f64) -> T) -> Result<(Vec<i64>, Vec<T>), DataError> {
    let fail = |e: std::io::Error| unreadable(path, &e);
    let DType::Plain(plain) = npy.dtype() else { return Err(DataError::format(path, "structured arrays are not supported")) };
    if plain.type_char() == TypeChar::Object {
        let reason = "an array of Python objects: save numbers, for instance with np.asarray(x, dtype=np.float32)";
        return Err(DataError::format(path, reason));
    }
    let order = npy.order();
    let shape = npy.shape().iter().map(|&n| i64::try_from(n)).collect::<Result<Vec<i64>, _>>();
    let shape = shape.map_err(|_| DataError::format(path, format!("shape {:?} is not possible", npy.shape())))?;
    let count = elements(&shape, size_of::<T>() as u64).map_err(|e| DataError::format(path, e))?;
    // Room is taken as elements arrive: a header may promise more than the file holds.
    macro_rules! read_as {
        ($type:ty, $convert:expr) => {
            npy.data::<$type>()
                .map_err(|e| DataError::format(path, e))?
                .map(|v| v.map(|v| cast($convert(v))))
                .collect::<Result<Vec<T>, _>>()
        };
    }
    let values = match (plain.type_char(), plain.num_bytes()) {
        (TypeChar::Float, Some(2)) => read_as!(half::f16, f64::from),
        (TypeChar::Float, Some(4)) => read_as!(f32, f64::from),
        (TypeChar::Float, Some(8)) => read_as!(f64, f64::from),
        (TypeChar::Int, Some(1)) => read_as!(i8, f64::from),
        (TypeChar::Int, Some(2)) => read_as!(i16, f64::from),
        (TypeChar::Int, Some(4)) => read_as!(i32, f64::from),
        (TypeChar::Int, Some(8)) => read_as!(i64, |v: i64| v as f64),
        (TypeChar::Uint, Some(1)) => read_as!(u8, f64::from),
        (TypeChar::Uint, Some(2)) => read_as!(u16, f64::from),
        (TypeChar::Uint, Some(4)) => read_as!(u32, f64::from),
        (TypeChar::Uint, Some(8)) => read_as!(u64, |v: u64| v as f64),
        (TypeChar::Bool, _) => read_as!(bool, |v: bool| f64::from(u8::from(v))),
        _ => return Err(DataError::format(path, format!("elements of type {plain} are not supported"))),
    };
    let values = values.map_err(fail)?;
    if values.len() != count {
        return Err(DataError::format(path, format!("{} elements for shape {shape:?}", values.len())));
    }
    let values = if order == npyz::Order::C { values } else { from_fortran(&shape, &values) };
    Ok((shape, values))
}

/// Elements whose first axis varies fastest, put so that the last one does.
fn from_fortran<T: Copy>(shape: &[i64], values: &[T]) -> Vec<T> {
    let mut strides = vec![1usize; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1] as usize;
    }
    let place = |mut index: usize| {
        let mut place = 0;
        for (axis, &n) in shape.iter().enumerate().rev() {
            place += index % n as usize * strides[axis];
            index /= n as usize;
        }
        place
    };
    (0..values.len()).map(|i| values[place(i)]).collect()
}
