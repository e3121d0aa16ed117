//! Recordings, turned into speech features when they are read.

use std::sync::Arc;

use super::files::{Labelled, list};
use super::{Found, Samples};
use crate::config::WavConfig;
use crate::error::DataError;

struct Recordings {
    files: Labelled,
    shape: Vec<i64>,
    config: WavConfig,
}

pub(super) fn find(name: &str, config: &WavConfig) -> Result<Found, DataError> {
    let count = samples(config);
    if let Some(reason) = config.front_end.problem(config.rate, count) {
        return Err(DataError::Invalid { name: name.to_string(), reason });
    }
    let listing = list(name, &config.path, &["wav"])?;
    let (frames, values) = config.front_end.shape(config.rate, count);
    let shape = vec![1, frames as i64, values as i64];
    let make = |files| Arc::new(Recordings { files, shape: shape.clone(), config: config.clone() }) as Arc<dyn Samples>;
    Ok(Found { train: make(listing.train), test: listing.test.map(make), classes: listing.classes })
}

fn samples(config: &WavConfig) -> usize {
    (config.rate as f64 * config.seconds).round().max(0.0) as usize
}

impl Samples for Recordings {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        let place = &self.files[index].0;
        let path = place.path();
        let fail = |e: hound::Error| DataError::format(&path, e);
        let bytes = place.bytes()?;
        let mut reader = hound::WavReader::new(&bytes[..]).map_err(fail)?;
        let spec = reader.spec();
        if spec.sample_rate != self.config.rate {
            let reason = format!("{} samples a second, `rate: {}` is asked for", spec.sample_rate, self.config.rate);
            return Err(DataError::format(&path, reason));
        }
        let all: Vec<f32> = match spec.sample_format {
            hound::SampleFormat::Float => reader.samples::<f32>().collect::<Result<_, _>>().map_err(fail)?,
            hound::SampleFormat::Int => {
                let full = (1i64 << (spec.bits_per_sample - 1)) as f32;
                reader.samples::<i32>().map(|s| s.map(|v| v as f32 / full)).collect::<Result<_, _>>().map_err(fail)?
            }
        };
        // Several channels become their mean.
        let channels = spec.channels.max(1) as usize;
        let mut signal: Vec<f32> = all.chunks(channels).map(|c| c.iter().sum::<f32>() / channels as f32).collect();
        signal.resize(samples(&self.config), 0.0);
        out.copy_from_slice(&self.config.front_end.compute(&signal, self.config.rate));
        Ok(())
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.files[index].1)
    }
}
