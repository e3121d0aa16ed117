//! Resampling: nearest, linear and cubic interpolation along every axis.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{own, wrap_axis};
use crate::attributes::Attributes;
use crate::axes::{AxisLinks, Slot};
use crate::error::{OpResult, invalid};
use crate::op::{Inputs, Mode, Operator};
use crate::tensor::to_f32s;

pub(super) const KINDS: &[&str] = &["Resize", "Upsample"];

#[derive(Debug)]
struct Resize {
    kind: &'static str,
    mode: String,
    coordinates: String,
    nearest: String,
    cubic: f64,
    exclude_outside: bool,
    policy: String,
    axes: Option<Vec<i64>>,
    fill: f64,
    antialias: bool,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let upsample = kind == "Upsample";
    Ok(Some(Arc::new(Resize {
        kind,
        mode: attributes.get_str("mode", "nearest")?.to_string(),
        coordinates: attributes
            .get_str("coordinate_transformation_mode", if upsample { "asymmetric" } else { "half_pixel" })?
            .to_string(),
        nearest: attributes.get_str("nearest_mode", if upsample { "floor" } else { "round_prefer_floor" })?.to_string(),
        cubic: attributes.get_float("cubic_coeff_a", -0.75)?,
        exclude_outside: attributes.get_flag("exclude_outside", false)?,
        policy: attributes.get_str("keep_aspect_ratio_policy", "stretch")?.to_string(),
        axes: attributes.opt_ints("axes")?,
        fill: attributes.get_float("extrapolation_value", 0.0)?,
        antialias: attributes.get_flag("antialias", false)?,
    })))
}

/// One axis to resample.
struct AxisPlan {
    axis: usize,
    old: i64,
    new: i64,
    scale: f64,
    roi: (f64, f64),
}

impl Resize {
    /// The position in the input of output index `o`.
    fn source(&self, p: &AxisPlan, o: i64) -> OpResult<f64> {
        let (o, old) = (o as f64, p.old as f64);
        let length = p.scale * old;
        Ok(match self.coordinates.as_str() {
            "half_pixel" => (o + 0.5) / p.scale - 0.5,
            "half_pixel_symmetric" => {
                let adjust = p.new as f64 / length;
                let centre = old / 2.0;
                centre * (1.0 - adjust) + (o + 0.5) / p.scale - 0.5
            }
            "pytorch_half_pixel" if p.new > 1 => (o + 0.5) / p.scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "align_corners" if p.new > 1 => o * (old - 1.0) / (length - 1.0),
            "align_corners" => 0.0,
            "asymmetric" => o / p.scale,
            "tf_crop_and_resize" => {
                let (start, end) = p.roi;
                if p.new > 1 {
                    start * (old - 1.0) + o * (end - start) * (old - 1.0) / (length - 1.0)
                } else {
                    0.5 * (start + end) * (old - 1.0)
                }
            }
            other => invalid!("coordinate_transformation_mode `{other}` is not known"),
        })
    }

    /// The weights of one axis as a matrix `[new, old]`; rows that lie outside are listed apart.
    fn matrix(&self, p: &AxisPlan) -> OpResult<(Tensor, Vec<i64>)> {
        let mut m = vec![0f64; (p.new * p.old) as usize];
        let mut outside = Vec::new();
        for o in 0..p.new {
            let x = self.source(p, o)?;
            if self.coordinates == "tf_crop_and_resize" && !(0.0..=(p.old - 1) as f64).contains(&x) {
                outside.push(o);
                continue;
            }
            for (i, w) in self.taps(x, p)? {
                if self.exclude_outside && !(0..p.old).contains(&i) {
                    continue;
                }
                m[(o * p.old + i.clamp(0, p.old - 1)) as usize] += w;
            }
            let row = &mut m[(o * p.old) as usize..((o + 1) * p.old) as usize];
            let sum: f64 = row.iter().sum();
            if sum != 0.0 {
                row.iter_mut().for_each(|w| *w /= sum);
            }
        }
        Ok((Tensor::from_slice(&m).f_reshape([p.new, p.old])?, outside))
    }

    fn taps(&self, x: f64, p: &AxisPlan) -> OpResult<Vec<(i64, f64)>> {
        if self.mode == "nearest" {
            let i = match self.nearest.as_str() {
                "round_prefer_floor" => (x - 0.5).ceil(),
                "round_prefer_ceil" => (x + 0.5).floor(),
                "floor" => x.floor(),
                "ceil" => x.ceil(),
                other => invalid!("nearest_mode `{other}` is not known"),
            };
            return Ok(vec![(i as i64, 1.0)]);
        }
        let support = match self.mode.as_str() {
            "linear" => 1.0,
            "cubic" => 2.0,
            other => invalid!("mode `{other}` is not known"),
        };
        // Antialiasing stretches the kernel when the axis shrinks.
        let stretch = if self.antialias { p.scale.min(1.0) } else { 1.0 };
        let reach = support / stretch;
        if !x.is_finite() || reach > 1e6 {
            invalid!("a scale of {} is out of reach", p.scale);
        }
        let (from, to) = ((x - reach).ceil() as i64, (x + reach).floor() as i64);
        let taps = (from..=to).map(|i| (i, self.kernel(((i as f64) - x) * stretch)));
        Ok(taps.filter(|(_, w)| *w != 0.0).collect())
    }

    fn kernel(&self, distance: f64) -> f64 {
        let (d, a) = (distance.abs(), self.cubic);
        match (self.mode.as_str(), d) {
            ("linear", d) => (1.0 - d).max(0.0),
            (_, d) if d <= 1.0 => (a + 2.0) * d.powi(3) - (a + 3.0) * d.powi(2) + 1.0,
            (_, d) if d < 2.0 => a * d.powi(3) - 5.0 * a * d.powi(2) + 8.0 * a * d - 4.0 * a,
            _ => 0.0,
        }
    }

    fn plans(&self, inputs: &Inputs) -> OpResult<Vec<AxisPlan>> {
        let x = inputs.get(0)?;
        let rank = x.dim();
        let (roi_at, scales_at, sizes_at) = if self.kind == "Upsample" { (9, 1, 9) } else { (1, 2, 3) };
        let axes = match &self.axes {
            Some(axes) => axes.iter().map(|&a| wrap_axis(a, rank).map(|a| a as usize)).collect::<OpResult<Vec<_>>>()?,
            None => (0..rank).collect(),
        };
        let floats = |i: usize| inputs.opt(i).map(to_f32s).transpose().map(|v| v.filter(|v| !v.is_empty()));
        let (roi, scales) = (floats(roi_at)?, floats(scales_at)?);
        let sizes = inputs.ints(sizes_at)?.filter(|s| !s.is_empty());
        let mut plans = Vec::new();
        let policy = match (&sizes, self.policy.as_str()) {
            (Some(sizes), "not_larger" | "not_smaller") => {
                let ratios = axes.iter().zip(sizes).map(|(&a, &n)| n as f64 / x.size()[a] as f64);
                Some(if self.policy == "not_larger" { ratios.fold(f64::INFINITY, f64::min) } else { ratios.fold(0.0, f64::max) })
            }
            _ => None,
        };
        for (i, &axis) in axes.iter().enumerate() {
            let old = x.size()[axis];
            let (new, scale) = match (&sizes, &scales, policy) {
                (Some(_), _, Some(scale)) => ((scale * old as f64 + 0.5).floor() as i64, scale),
                (Some(sizes), _, None) if i < sizes.len() => (sizes[i], sizes[i] as f64 / old as f64),
                (None, Some(scales), _) if i < scales.len() => {
                    let scale = scales[i] as f64;
                    let span = match &roi {
                        Some(roi) if self.coordinates == "tf_crop_and_resize" => (roi[i + axes.len()] - roi[i]) as f64,
                        _ => 1.0,
                    };
                    ((old as f64 * span * scale).floor() as i64, scale)
                }
                _ => invalid!("neither scales nor sizes fit {} axes", axes.len()),
            };
            let roi = match &roi {
                Some(roi) if roi.len() == 2 * axes.len() => (roi[i] as f64, roi[i + axes.len()] as f64),
                _ => (0.0, 1.0),
            };
            let crop = self.coordinates == "tf_crop_and_resize";
            if new != old || scale != 1.0 || (crop && roi != (0.0, 1.0)) {
                plans.push(AxisPlan { axis, old, new, scale, roi });
            }
        }
        Ok(plans)
    }
}

impl Operator for Resize {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let kind = x.kind();
        let mut y = x.f_to_kind(if kind == Kind::Double { kind } else { Kind::Float })?;
        // Interpolation is separable: one small matrix an axis.
        for plan in self.plans(inputs)? {
            let (matrix, outside) = self.matrix(&plan)?;
            let matrix = matrix.f_to_kind(y.kind())?.f_to_device(y.device())?;
            let moved = y.f_movedim_int(plan.axis as i64, -1)?;
            let mut out = moved.f_matmul(&matrix.f_tr()?)?;
            if !outside.is_empty() {
                out = out.f_index_fill(-1, &Tensor::from_slice(&outside).f_to_device(y.device())?, self.fill)?;
            }
            y = out.f_movedim_int(-1, plan.axis as i64)?;
        }
        Ok(vec![y.f_to_kind(kind)?])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        let mut shape = inputs.get(0)?.size();
        for plan in self.plans(inputs)? {
            if plan.new < 0 || !plan.scale.is_finite() || plan.scale <= 0.0 {
                invalid!("axis {} can't be resized by {} to {}", plan.axis, plan.scale, plan.new);
            }
            crate::memory::elements(&[plan.new, plan.old], 8).map_err(|e| crate::OpError::Invalid(e.to_string()))?;
            shape[plan.axis] = shape[plan.axis].max(plan.new);
        }
        Ok(Some(shape))
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (x, y) = (Slot::In(0), Slot::Out(0));
        for a in 0..links.shape(x).len() {
            // The batch and channel axes pass through; spatial ones are scaled.
            if a < 2 && links.shape(x)[a] == links.shape(y)[a] {
                links.same((x, a), (y, a));
            } else {
                links.fix((x, a));
                links.fix((y, a));
            }
        }
    }
}
