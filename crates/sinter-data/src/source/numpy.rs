//! NumPy arrays: .npz archives and .npy files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use npyz::{DType, NpyFile, TypeChar, npz::NpzArchive};

use super::{Found, Held, Samples};
use crate::config::NumpyConfig;
use crate::error::DataError;

pub(super) fn find(config: &NumpyConfig) -> Result<Found, DataError> {
    let (train, most) = load(&config.path, config)?;
    let (test, most_test) = match &config.test {
        Some(path) => {
            let (test, most) = load(path, config)?;
            (Some(test), most)
        }
        None => (None, None),
    };
    let classes = most.max(most_test).map_or(0, |m| m + 1);
    let classes = (0..classes).map(|c| c.to_string()).collect();
    Ok(Found { train, test, classes })
}

/// The samples of one file, and the largest label.
fn load(path: &Path, config: &NumpyConfig) -> Result<(Arc<dyn Samples>, Option<i64>), DataError> {
    let open = |path: &Path| File::open(path).map(BufReader::new).map_err(DataError::read(path));
    let (x, y) = if path.extension().is_some_and(|e| e == "npz") {
        let mut archive = NpzArchive::new(open(path)?).map_err(|e| DataError::format(path, e))?;
        let names: Vec<String> = archive.array_names().map(str::to_string).collect();
        let missing = |name: &str| DataError::format(path, format!("no array `{name}`; it holds {}", names.join(", ")));
        let x = match archive.by_name(&config.samples).map_err(|e| DataError::format(path, e))? {
            Some(npy) => array(npy, path)?,
            None => return Err(missing(&config.samples)),
        };
        let label = config.labels.as_ref().map_or("y".into(), |l| l.to_string_lossy().into_owned());
        let y = match archive.by_name(&label).map_err(|e| DataError::format(path, e))? {
            Some(npy) => Some(array(npy, path)?),
            None if config.labels.is_some() => return Err(missing(&label)),
            None => None,
        };
        (x, y)
    } else {
        let read = |path: &Path| NpyFile::new(open(path)?).map_err(|e| DataError::format(path, e)).and_then(|f| array(f, path));
        (read(path)?, config.labels.as_deref().map(read).transpose()?)
    };
    let (dims, values) = x;
    let Some((&count, shape)) = dims.split_first().filter(|(_, shape)| !shape.is_empty()) else {
        return Err(DataError::format(path, format!("samples need an axis before those of one sample, the shape is {dims:?}")));
    };
    let labels = match y {
        Some((dims, marks)) if dims == [count] => Some(marks.iter().map(|&v| v as i64).collect::<Vec<_>>()),
        Some((dims, _)) => return Err(DataError::format(path, format!("labels of shape {dims:?} for {count} samples"))),
        None => None,
    };
    if labels.iter().flatten().any(|&l| l < 0) {
        return Err(DataError::format(path, "a label is negative"));
    }
    let most = labels.iter().flatten().max().copied();
    let shape = shape.iter().map(|&n| n as i64).collect();
    Ok((Arc::new(Held { shape, values, labels, divisor: 1.0 }), most))
}

/// The shape and the elements as float32.
fn array<R: Read>(npy: NpyFile<R>, path: &Path) -> Result<(Vec<u64>, Vec<f32>), DataError> {
    let fail = |e: std::io::Error| DataError::format(path, e);
    if npy.order() != npyz::Order::C {
        return Err(DataError::format(path, "arrays in Fortran order are not supported: save it with np.ascontiguousarray"));
    }
    let shape = npy.shape().to_vec();
    let DType::Plain(plain) = npy.dtype() else { return Err(DataError::format(path, "structured arrays are not supported")) };
    macro_rules! read_as {
        ($type:ty) => {
            npy.into_vec::<$type>().map_err(fail)?.into_iter().map(|v| v as f32).collect()
        };
    }
    let values = match (plain.type_char(), plain.num_bytes()) {
        (TypeChar::Float, Some(4)) => npy.into_vec::<f32>().map_err(fail)?,
        (TypeChar::Float, Some(8)) => read_as!(f64),
        (TypeChar::Int, Some(1)) => read_as!(i8),
        (TypeChar::Int, Some(2)) => read_as!(i16),
        (TypeChar::Int, Some(4)) => read_as!(i32),
        (TypeChar::Int, Some(8)) => read_as!(i64),
        (TypeChar::Uint, Some(1)) => read_as!(u8),
        (TypeChar::Uint, Some(2)) => read_as!(u16),
        (TypeChar::Uint, Some(4)) => read_as!(u32),
        (TypeChar::Uint, Some(8)) => read_as!(u64),
        (TypeChar::Bool, _) => npy.into_vec::<bool>().map_err(fail)?.into_iter().map(|v| v as u8 as f32).collect(),
        _ => return Err(DataError::format(path, format!("elements of type {plain} are not supported"))),
    };
    Ok((shape, values))
}
