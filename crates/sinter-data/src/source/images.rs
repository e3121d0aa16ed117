//! Images, decoded when they are read: turned as EXIF says, 16 bits a channel brought to 8, palettes and CMYK as RGB, transparency left out.

use std::io::Cursor;
use std::sync::Arc;

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
use rayon::prelude::*;
use sinter_model::elements;

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
            let (width, height) = dimensions(&listing.train[0].0)?;
            (height, width)
        }
    };
    let shape = vec![config.channels as i64, height as i64, width as i64];
    let invalid = |reason: String| DataError::Invalid { name: name.to_string(), reason };
    let count = elements(&shape, 4).map_err(|e| invalid(format!("`size`: {e}")))?;
    if count == 0 {
        return Err(invalid(format!("images of {height}x{width} pixels hold nothing")));
    }
    if config.size.is_none() {
        // Headers alone, before anything runs: what does not fit shall not be found an hour later.
        let all: Vec<&Place> = listing.train.iter().chain(listing.test.iter().flatten()).map(|(place, _)| place).collect();
        all.par_iter().try_for_each(|place| match dimensions(place)? {
            found if found == (width, height) => Ok(()),
            (w, h) => Err(DataError::format(&place.path(), another_size((h, w), (height, width)))),
        })?;
    }
    let samples = |files| Arc::new(Images { files, shape: shape.clone(), resize: config.size.is_some() }) as Arc<dyn Samples>;
    Ok(Found { train: samples(listing.train), test: listing.test.map(samples), classes: listing.classes })
}

fn another_size(found: (u32, u32), wanted: (u32, u32)) -> String {
    let ((h, w), (height, width)) = (found, wanted);
    format!("{h}x{w} pixels, the others have {height}x{width}: give `size: [height, width]` to resize all")
}

fn decoder(place: &Place, bytes: Vec<u8>) -> Result<impl ImageDecoder, DataError> {
    let fail = |e: image::ImageError| DataError::format(&place.path(), e);
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(DataError::read(&place.path()))?;
    // The crate's own limits keep a small file from asking for gigabytes.
    reader.into_decoder().map_err(fail)
}

/// Width and height as people see it, from the header.
fn dimensions(place: &Place) -> Result<(u32, u32), DataError> {
    let mut decoder = decoder(place, place.bytes()?)?;
    let (width, height) = decoder.dimensions();
    let turned = matches!(
        decoder.orientation().map_err(|e| DataError::format(&place.path(), e))?,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if turned { (height, width) } else { (width, height) })
}

/// The image, turned as its EXIF orientation says.
fn decode(place: &Place) -> Result<DynamicImage, DataError> {
    let fail = |e: image::ImageError| DataError::format(&place.path(), e);
    let mut decoder = decoder(place, place.bytes()?)?;
    let orientation = decoder.orientation().map_err(fail)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    image.apply_orientation(orientation);
    Ok(image)
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
                let reason = another_size((image.height(), image.width()), (height, width));
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
