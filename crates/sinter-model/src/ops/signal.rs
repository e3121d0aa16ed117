//! Spectra: Fourier transforms, windows and mel filters, as front ends of sound models have them. They stay in float.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{own, wrap_axis};
use crate::attributes::{Attributes, ElementType};
use crate::axes::IoShapes;
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &["BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "STFT"];

#[derive(Debug)]
struct Signal {
    kind: &'static str,
    /// Of DFT before opset 20.
    axis: Option<i64>,
    inverse: bool,
    onesided: bool,
    periodic: bool,
    output: Kind,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let code = attributes.get_int("output_datatype", 1)?;
    let Some(element) = ElementType::from_onnx(code as i32) else { invalid!("element type {code} is not supported") };
    Ok(Some(Arc::new(Signal {
        kind,
        axis: attributes.opt_int("axis")?,
        inverse: attributes.get_flag("inverse", false)?,
        onesided: attributes.get_flag("onesided", kind == "STFT")?,
        periodic: attributes.get_flag("periodic", true)?,
        output: element.kind(),
    })))
}

/// One number of an input.
fn number(inputs: &Inputs, at: usize, what: &str) -> OpResult<i64> {
    match inputs.ints(at)?.as_deref() {
        Some([one]) => Ok(*one),
        _ => invalid!("{what} is missing"),
    }
}

/// Real numbers `[..., 1]` or complex ones `[..., 2]`, as complex numbers.
fn complex(x: &Tensor) -> OpResult<Tensor> {
    let x = x.f_to_kind(Kind::Float)?;
    let pairs = match x.size().last() {
        Some(2) => x,
        Some(1) => Tensor::f_cat(&[&x, &x.f_zeros_like()?], -1)?,
        _ => invalid!("an input of shape {:?} does not end in an axis of real and imaginary parts", x.size()),
    };
    Ok(pairs.f_contiguous()?.f_view_as_complex()?)
}

impl Signal {
    fn dft(&self, inputs: &Inputs) -> OpResult<Tensor> {
        let x = inputs.get(0)?;
        let axis = match inputs.ints(2)? {
            Some(axis) => axis.first().copied().unwrap_or(-2),
            None => self.axis.unwrap_or(1),
        };
        let axis = wrap_axis(axis, x.dim())?;
        if axis == x.dim() as i64 - 1 {
            invalid!("it can't go along the axis of real and imaginary parts");
        }
        let length = inputs.ints(1)?.and_then(|l| l.first().copied()).unwrap_or(x.size()[axis as usize]);
        if length < 1 {
            invalid!("a transform of length {length} is not possible");
        }
        let values = complex(x)?;
        let spectrum = match self.inverse {
            true => values.f_fft_ifft(length, axis, "backward")?,
            false => values.f_fft_fft(length, axis, "backward")?,
        };
        let real = spectrum.f_view_as_real()?;
        Ok(if self.onesided { real.f_narrow(axis, 0, length / 2 + 1)?.f_contiguous()? } else { real })
    }

    /// Frames of the signal times the window, transformed: `[n, frames, bins, 2]`.
    fn stft(&self, inputs: &Inputs) -> OpResult<Tensor> {
        let x = inputs.get(0)?;
        let step = number(inputs, 1, "the frame step")?;
        let window = inputs.opt(2);
        let length = match (inputs.ints(3)?.as_deref(), window) {
            (Some([length]), _) => *length,
            (_, Some(window)) => window.numel() as i64,
            _ => invalid!("neither a window nor a frame length is given"),
        };
        let size = x.size();
        if step < 1 || length < 1 || size.len() < 2 || size[1] < length {
            invalid!("frames of {length} every {step} do not fit a signal of shape {size:?}");
        }
        let signal = if size.len() == 2 { x.f_unsqueeze(-1)? } else { x.shallow_clone() };
        // [n, frames, parts, length]
        let frames = signal.f_to_kind(Kind::Float)?.f_unfold(1, length, step)?;
        let frames = match window {
            Some(window) if window.numel() as i64 == length => frames.f_mul(&window.f_to_kind(Kind::Float)?)?,
            Some(window) => invalid!("a window of {} does not fit frames of {length}", window.numel()),
            None => frames,
        };
        let spectrum = complex(&frames.f_transpose(2, 3)?)?.f_fft_fft(length, 2, "backward")?.f_view_as_real()?;
        Ok(if self.onesided { spectrum.f_narrow(2, 0, length / 2 + 1)?.f_contiguous()? } else { spectrum })
    }

    fn window(&self, size: i64) -> OpResult<Tensor> {
        let steps = if self.periodic { size } else { size - 1 };
        let at = Tensor::f_arange(size, (Kind::Double, Device::Cpu))?;
        let angle = at.f_mul_scalar(std::f64::consts::TAU / steps.max(1) as f64)?;
        // Sums of cosines: Hann, Hamming with the coefficients of the standard, Blackman.
        let terms: &[f64] = match self.kind {
            "HannWindow" => &[0.5, -0.5],
            "HammingWindow" => &[25.0 / 46.0, -21.0 / 46.0],
            _ => &[0.42, -0.5, 0.08],
        };
        let mut sum = at.f_zeros_like()?;
        for (k, term) in terms.iter().enumerate() {
            sum = sum.f_add(&angle.f_mul_scalar(k as f64)?.f_cos()?.f_mul_scalar(*term)?)?;
        }
        Ok(sum.f_to_kind(self.output)?)
    }

    /// Triangles between points evenly spaced in mel, `[bins of the spectrum, filters]`.
    fn mel(&self, inputs: &Inputs) -> OpResult<Tensor> {
        let (count, length) = (number(inputs, 0, "num_mel_bins")?, number(inputs, 1, "dft_length")?);
        let rate = number(inputs, 2, "sample_rate")?;
        let edge = |at: usize| -> OpResult<f64> { Ok(inputs.get(at)?.f_double_value(&[])?) };
        let (low, high) = (edge(3)?, edge(4)?);
        if count < 1 || length < 2 || rate < 1 || !(low >= 0.0 && low < high) {
            invalid!("{count} filters from {low} to {high} Hz of a spectrum of {length} are not possible");
        }
        let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
        let step = (mel(high) - mel(low)) / (count + 2) as f64;
        let point = |i: i64| {
            let hz = 700.0 * (10f64.powf((mel(low) + step * i as f64) / 2595.0) - 1.0);
            ((length + 1) as f64 * hz / rate as f64).floor() as i64
        };
        let bins = length / 2 + 1;
        let mut values = vec![0f32; (bins * count) as usize];
        for filter in 0..count {
            let (from, middle, to) = (point(filter), point(filter + 1), point(filter + 2));
            let mut put = |bin: i64, value: f64| {
                if (0..bins).contains(&bin) {
                    values[(bin * count + filter) as usize] = value as f32;
                }
            };
            if middle == from {
                put(middle, 1.0);
            } else {
                (from..=middle).for_each(|bin| put(bin, (bin - from) as f64 / (middle - from) as f64));
            }
            if to > middle {
                (middle..to).for_each(|bin| put(bin, (to - bin) as f64 / (to - middle) as f64));
            }
        }
        Ok(Tensor::f_from_slice(&values)?.f_reshape([bins, count])?.f_to_kind(self.output)?)
    }
}

impl Operator for Signal {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        Ok(vec![match self.kind {
            "DFT" => self.dft(inputs)?,
            "STFT" => self.stft(inputs)?,
            "MelWeightMatrix" => self.mel(inputs)?,
            _ => self.window(number(inputs, 0, "the size")?.max(0))?,
        }])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        Ok(match self.kind {
            "DFT" => {
                let length = inputs.ints(1)?.and_then(|l| l.first().copied()).unwrap_or(1);
                let others: i64 = inputs.get(0)?.size().iter().map(|n| (*n).max(1)).fold(1, i64::saturating_mul);
                Some(vec![others, length.max(1)])
            }
            "STFT" => {
                let length = inputs.ints(3)?.and_then(|l| l.first().copied());
                let length = length.or_else(|| inputs.opt(2).map(|w| w.numel() as i64)).unwrap_or(1);
                let frames = inputs.get(0)?.numel() as i64 / number(inputs, 1, "the frame step")?.max(1) + 1;
                Some(vec![frames, length.max(1), 2])
            }
            "MelWeightMatrix" => Some(vec![number(inputs, 0, "num_mel_bins")?, number(inputs, 1, "dft_length")?]),
            _ => Some(vec![number(inputs, 0, "the size")?]),
        })
    }

    /// Five operations for each value and halving of the length, as a fast transform has (Cooley and Tukey, 1965).
    fn cost(&self, shapes: &IoShapes) -> Cost {
        let values = shapes.output_len(0);
        let per = if matches!(self.kind, "DFT" | "STFT") { 5 * u64::from(64 - values.leading_zeros()) } else { 1 };
        Cost { macs: 0, other: values.saturating_mul(per) }
    }
}
