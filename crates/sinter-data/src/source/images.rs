//! Images, decoded when they are read.

use std::sync::Arc;

use image::imageops::FilterType;

use super::files::{Labelled, Place, list};
use super::{Found, Samples};
use crate::config::ImagesConfig;
use crate::error::DataError;

struct Images {
    files: Labelled,
    shape: Vec<i64>,
    resize: bool,
}

pub(super) fn find(name: &str, config: &ImagesConfig) -> Result<Found, DataError> {
    if config.channels != 1 && config.channels != 3 {
        let reason = format!("channels must be 1 or 3, not {}", config.channels);
        return Err(DataError::Invalid { name: name.to_string(), reason });
    }
    let listing = list(name, &config.path, &["jpg", "jpeg", "png", "bmp"])?;
    let (height, width) = match config.size {
        Some([h, w]) => (h, w),
        None => {
            let first = decode(&listing.train[0].0)?;
            (first.height(), first.width())
        }
    };
    let shape = vec![config.channels as i64, height as i64, width as i64];
    let samples = |files| Arc::new(Images { files, shape: shape.clone(), resize: config.size.is_some() }) as Arc<dyn Samples>;
    Ok(Found { train: samples(listing.train), test: listing.test.map(samples), classes: listing.classes })
}

fn decode(place: &Place) -> Result<image::DynamicImage, DataError> {
    image::load_from_memory(&place.bytes()?).map_err(|e| DataError::format(&place.path(), e))
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        let place = &self.files[index].0;
        let mut image = decode(place)?;
        let (height, width) = (self.shape[1] as u32, self.shape[2] as u32);
        if (image.height(), image.width()) != (height, width) {
            if !self.resize {
                let reason = format!(
                    "{}x{} pixels, the others have {height}x{width}: give `size: [height, width]` to resize all",
                    image.height(),
                    image.width()
                );
                return Err(DataError::format(&place.path(), reason));
            }
            image = image.resize_exact(width, height, FilterType::Triangle);
        }
        // Interleaved bytes to planes.
        let channels = self.shape[0] as usize;
        let bytes = if channels == 1 { image.into_luma8().into_raw() } else { image.into_rgb8().into_raw() };
        let plane = (height * width) as usize;
        for (i, pixel) in bytes.chunks_exact(channels).enumerate() {
            for (c, &v) in pixel.iter().enumerate() {
                out[c * plane + i] = v as f32;
            }
        }
        Ok(())
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.files[index].1)
    }

    fn default_divisor(&self) -> f32 {
        255.0
    }
}
