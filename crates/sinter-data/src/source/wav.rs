//! Recordings, turned into speech features when they are read.

use std::sync::Arc;

use rayon::prelude::*;
use sinter_model::elements;

use super::files::{Labelled, Place, list};
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
    elements(&[count.min(i64::MAX as usize) as i64], 8)
        .map_err(|e| DataError::Invalid { name: name.to_string(), reason: format!("`rate` times `seconds`: {e}") })?;
    if let Some(reason) = config.front_end.problem(config.rate, count) {
        return Err(DataError::Invalid { name: name.to_string(), reason });
    }
    let listing = list(name, &config.path, &["wav"])?;
    let all: Vec<&Place> = listing.train.iter().chain(listing.test.iter().flatten()).map(|(place, _)| place).collect();
    // Headers alone, before anything runs: what can't be read shall not be found an hour later.
    all.par_iter().try_for_each(|place| header(place, config.rate))?;
    let (frames, values) = config.front_end.shape(config.rate, count);
    let shape = vec![1, frames as i64, values as i64];
    let make = |files| Arc::new(Recordings { files, shape: shape.clone(), config: config.clone() }) as Arc<dyn Samples>;
    Ok(Found { train: make(listing.train), test: listing.test.map(make), classes: listing.classes })
}

/// How much of a file holds its header, whatever else was put before the samples.
const HEADER: u64 = 1 << 16;

/// Errors on a file of another rate or kind.
fn header(place: &Place, rate: u32) -> Result<(), DataError> {
    let spec = |bytes: &[u8]| hound::WavReader::new(bytes).map(|reader| reader.spec());
    let bytes = place.start(HEADER)?;
    let found = match spec(&bytes) {
        // Pictures and lyrics may stand in front.
        Err(_) if bytes.len() as u64 == HEADER => spec(&place.bytes()?),
        other => other,
    };
    takes(found.map_err(|e| DataError::format(&place.path(), e))?, rate)
        .map_err(|reason| DataError::format(&place.path(), reason))
}

/// Why recordings of such a kind can't be read, if so.
fn takes(spec: hound::WavSpec, rate: u32) -> Result<(), String> {
    if spec.sample_rate != rate {
        let found = spec.sample_rate;
        return Err(format!(
            "{found} samples a second, `rate: {rate}` is asked for: resample the files, or write `rate: {found}`"
        ));
    }
    if spec.channels == 0 || !(1..=32).contains(&spec.bits_per_sample) {
        return Err(format!("{} channels of {} bits can't be read", spec.channels, spec.bits_per_sample));
    }
    Ok(())
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
        takes(spec, self.config.rate).map_err(|reason| DataError::format(&path, reason))?;
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
        if signal.iter().any(|v| !v.is_finite()) {
            return Err(DataError::format(&path, "the recording holds NaN or an infinite value"));
        }
        signal.resize(samples(&self.config), 0.0);
        out.copy_from_slice(&self.config.front_end.compute(&signal, self.config.rate));
        Ok(())
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.files[index].1)
    }
}
