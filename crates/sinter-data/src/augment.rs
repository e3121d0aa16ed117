//! Simple augmentation of training images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Random changes to a training sample of shape `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Shift by up to so many pixels in each direction; what enters is black (0 before normalisation). Default: 0.
    #[serde(default)]
    pub shift: u32,
    /// Mirror left and right with probability one half. Default: false.
    #[serde(default)]
    pub flip: bool,
    /// Add normal noise of this standard deviation. Default: 0.
    #[serde(default)]
    pub noise: f32,
}

impl Augment {
    /// Whether nothing is changed.
    pub fn is_none(&self) -> bool {
        self.shift == 0 && !self.flip && self.noise == 0.0
    }

    /// Errors on numbers that can't augment.
    pub fn check(&self) -> Result<(), String> {
        match self.noise.is_finite() && self.noise >= 0.0 {
            true => Ok(()),
            false => Err(format!("noise is a standard deviation, at least 0, not {}", self.noise)),
        }
    }

    /// Changes one sample in place. `black` is what enters, for each channel.
    pub(crate) fn apply(&self, sample: &mut [f32], shape: &[i64], black: &[f32], rng: &mut fastrand::Rng) {
        if let [channels, height, width] = *shape {
            let (h, w) = (height as usize, width as usize);
            let reach = self.shift as i64;
            let (dy, dx) = (rng.i64(-reach..=reach), rng.i64(-reach..=reach));
            let mirror = self.flip && rng.bool();
            if dy != 0 || dx != 0 || mirror {
                for c in 0..channels as usize {
                    let plane = &mut sample[c * h * w..(c + 1) * h * w];
                    let old = plane.to_vec();
                    for y in 0..h {
                        for x in 0..w {
                            let (sy, mut sx) = (y as i64 + dy, x as i64 + dx);
                            if mirror {
                                sx = width - 1 - sx;
                            }
                            let inside = (0..height).contains(&sy) && (0..width).contains(&sx);
                            plane[y * w + x] = if inside { old[sy as usize * w + sx as usize] } else { black[c] };
                        }
                    }
                }
            }
        }
        if self.noise > 0.0 {
            for v in sample {
                // Box and Muller's transform.
                let (u, t) = (1.0 - rng.f32(), rng.f32());
                *v += self.noise * (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * t).cos();
            }
        }
    }
}
