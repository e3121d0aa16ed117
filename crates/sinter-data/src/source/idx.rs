//! The idx format of MNIST (LeCun et al., 1998): a magic number, big-endian lengths, bytes.

use std::path::Path;
use std::sync::Arc;

use super::{Found, Held, unzipped};
use crate::config::IdxConfig;
use crate::error::DataError;

pub(super) fn find(config: &IdxConfig) -> Result<Found, DataError> {
    let split = |images: &Path, labels: &Path| -> Result<Held<u8>, DataError> {
        let (images, labels) = (config.folder.join(images), config.folder.join(labels));
        let (dims, values) = read(&images, 3)?;
        let (count, marks) = read(&labels, 1)?;
        if count[0] != dims[0] {
            let reason = format!("{} labels, but {} has {} images", count[0], images.display(), dims[0]);
            return Err(DataError::format(&labels, reason));
        }
        let labels = Some(marks.into_iter().map(i64::from).collect());
        Ok(Held { shape: vec![1, dims[1] as i64, dims[2] as i64], values, labels, divisor: 255.0 })
    };
    let train = split(&config.train_images, &config.train_labels)?;
    let test = split(&config.test_images, &config.test_labels)?;
    let classes = train.labels.iter().chain(&test.labels).flatten().max().map_or(0, |&m| m + 1);
    let classes = (0..classes).map(|c| c.to_string()).collect();
    Ok(Found { train: Arc::new(train), test: Some(Arc::new(test)), classes })
}

fn read(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let bytes = unzipped(path)?;
    let word = |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let magic = 0x0800 + rank;
    if word(0) != Some(magic) {
        return Err(DataError::format(path, format!("not an idx file of bytes with {rank} axes (magic number {magic:#06x})")));
    }
    let dims: Option<Vec<usize>> = (1..=rank).map(word).collect();
    let Some(dims) = dims else { return Err(DataError::format(path, "the header is cut off")) };
    let count = dims.iter().try_fold(1usize, |a, &n| a.checked_mul(n));
    let body = &bytes[4 * (rank + 1)..];
    if dims.contains(&0) {
        return Err(DataError::format(path, format!("it is empty: the header says {dims:?}")));
    }
    if count != Some(body.len()) {
        return Err(DataError::format(path, format!("the header promises {dims:?}, the file holds {} bytes", body.len())));
    }
    Ok((dims, body.to_vec()))
}
