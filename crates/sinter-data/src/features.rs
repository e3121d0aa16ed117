//! Speech features: log-mel spectrograms and mel-frequency cepstral coefficients (Davis and Mermelstein, 1980).

use realfft::RealFftPlanner;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which features a recording becomes. The defaults are those of the MLPerf Tiny keyword-spotting reference: 49 x 10 MFCC.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrontEnd {
    /// What is computed of each window. Default: mfcc.
    #[serde(default)]
    pub features: Features,
    /// Length of a window in milliseconds. Default: 30.
    #[serde(default = "window")]
    pub window_ms: f64,
    /// Distance between windows in milliseconds. Default: 20.
    #[serde(default = "hop")]
    pub hop_ms: f64,
    /// Mel filters. Default: 40.
    #[serde(default = "mels")]
    pub mels: usize,
    /// Coefficients kept (MFCC only). Default: 10.
    #[serde(default = "coefficients")]
    pub coefficients: usize,
    /// Lowest frequency in Hz. Default: 20.
    #[serde(default = "low")]
    pub low_hz: f64,
    /// Highest frequency in Hz. Default: 4000.
    #[serde(default = "high")]
    pub high_hz: f64,
}

/// What is computed from a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Features {
    /// Mel-frequency cepstral coefficients.
    #[default]
    Mfcc,
    /// Logarithms of mel energies.
    LogMel,
}

fn window() -> f64 {
    30.0
}

fn hop() -> f64 {
    20.0
}

fn mels() -> usize {
    40
}

fn coefficients() -> usize {
    10
}

fn low() -> f64 {
    20.0
}

fn high() -> f64 {
    4000.0
}

impl Default for FrontEnd {
    fn default() -> Self {
        Self {
            features: Features::Mfcc,
            window_ms: window(),
            hop_ms: hop(),
            mels: mels(),
            coefficients: coefficients(),
            low_hz: low(),
            high_hz: high(),
        }
    }
}

fn mel(hz: f64) -> f64 {
    1127.0 * (1.0 + hz / 700.0).ln()
}

impl FrontEnd {
    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self, rate: u32, samples: usize) -> Option<String> {
        let window = self.window_len(rate);
        if window < 2 || self.hop_len(rate) == 0 {
            return Some("window_ms and hop_ms must each cover at least one sample".into());
        }
        if samples < window {
            return Some(format!("a recording of {samples} samples is shorter than a window of {window}"));
        }
        if self.mels == 0 || self.mels > window || self.coefficients == 0 || self.coefficients > self.mels {
            return Some("mels must be at least 1, and coefficients between 1 and mels".into());
        }
        if !(self.low_hz >= 0.0 && self.low_hz < self.high_hz && self.high_hz <= rate as f64 / 2.0) {
            return Some(format!("low_hz < high_hz <= {} must hold", rate / 2));
        }
        None
    }

    fn window_len(&self, rate: u32) -> usize {
        (rate as f64 * self.window_ms / 1000.0).round() as usize
    }

    fn hop_len(&self, rate: u32) -> usize {
        (rate as f64 * self.hop_ms / 1000.0).round() as usize
    }

    /// Frames and values a frame, for a recording of so many samples.
    pub fn shape(&self, rate: u32, samples: usize) -> (usize, usize) {
        let frames = (samples.saturating_sub(self.window_len(rate))) / self.hop_len(rate).max(1) + 1;
        (frames, if self.features == Features::Mfcc { self.coefficients } else { self.mels })
    }

    /// The features of one recording (samples in -1..=1), frame by frame.
    pub fn compute(&self, signal: &[f32], rate: u32) -> Vec<f32> {
        let (window, hop) = (self.window_len(rate), self.hop_len(rate));
        let size = window.next_power_of_two();
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(size);
        let hann: Vec<f32> =
            (0..window).map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / window as f64).cos() as f32).collect();
        let filters = self.filters(size, rate);
        let (frames, _) = self.shape(rate, signal.len());
        let mut buffer = fft.make_input_vec();
        let mut spectrum = fft.make_output_vec();
        let mut out = Vec::new();
        for f in 0..frames {
            buffer.fill(0.0);
            for (i, w) in hann.iter().enumerate() {
                buffer[i] = signal.get(f * hop + i).copied().unwrap_or(0.0) * w;
            }
            // The buffers are of the plan's own sizes, so the transform can't fail.
            if fft.process(&mut buffer, &mut spectrum).is_err() {
                continue;
            }
            let magnitude: Vec<f64> = spectrum.iter().map(|c| c.norm() as f64).collect();
            let energies: Vec<f64> = filters
                .iter()
                .map(|(start, weights)| {
                    let sum: f64 = weights.iter().enumerate().map(|(i, w)| w * magnitude[start + i]).sum();
                    sum.max(1e-12).ln()
                })
                .collect();
            match self.features {
                Features::LogMel => out.extend(energies.iter().map(|&e| e as f32)),
                Features::Mfcc => out.extend((0..self.coefficients).map(|k| dct(&energies, k) as f32)),
            }
        }
        out
    }

    /// Triangular filters evenly spaced in mel: the first bin and the weights from there on.
    fn filters(&self, size: usize, rate: u32) -> Vec<(usize, Vec<f64>)> {
        let (low, high) = (mel(self.low_hz), mel(self.high_hz));
        let step = (high - low) / (self.mels + 1) as f64;
        let bins = size / 2 + 1;
        let at: Vec<f64> = (0..bins).map(|b| mel(b as f64 * rate as f64 / size as f64)).collect();
        (0..self.mels)
            .map(|m| {
                let centre = low + step * (m + 1) as f64;
                let weight = |b: usize| (1.0 - (at[b] - centre).abs() / step).max(0.0);
                let start = (0..bins).find(|&b| weight(b) > 0.0).unwrap_or(0);
                let weights = (start..bins).map(weight).take_while(|&w| w > 0.0).collect();
                (start, weights)
            })
            .collect()
    }
}

/// Coefficient k of the orthonormal type-II cosine transform.
fn dct(x: &[f64], k: usize) -> f64 {
    let n = x.len() as f64;
    let sum: f64 = x.iter().enumerate().map(|(i, v)| v * (std::f64::consts::PI / n * (i as f64 + 0.5) * k as f64).cos()).sum();
    sum * (if k == 0 { 1.0 / n } else { 2.0 / n }).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_front_end_gives_49_by_10() {
        assert_eq!(FrontEnd::default().shape(16_000, 16_000), (49, 10));
    }

    #[test]
    fn a_tone_lights_the_filter_at_its_pitch() {
        let front = FrontEnd { features: Features::LogMel, ..FrontEnd::default() };
        let tone: Vec<f32> = (0..16_000).map(|i| (std::f32::consts::TAU * 1000.0 * i as f32 / 16_000.0).sin()).collect();
        let features = front.compute(&tone, 16_000);
        let frame = &features[20 * 40..21 * 40];
        let loudest = (0..40).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap();
        let step = (mel(4000.0) - mel(20.0)) / 41.0;
        let expected = ((mel(1000.0) - mel(20.0)) / step - 1.0).round() as usize;
        assert_eq!(loudest, expected);
    }

    #[test]
    fn the_cosine_transform_is_orthonormal() {
        let x: Vec<f64> = (0..40).map(|i| ((i * i) % 17) as f64).collect();
        let energy: f64 = x.iter().map(|v| v * v).sum();
        let back: f64 = (0..40).map(|k| dct(&x, k).powi(2)).sum();
        assert!((energy - back).abs() < 1e-9 * energy);
    }
}
