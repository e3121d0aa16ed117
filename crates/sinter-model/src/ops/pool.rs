//! Pooling, and the sliding window that convolution shares with it.

use std::sync::Arc;

use tch::Tensor;

use super::own;
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::{ParamsOf, Quantization};
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &["AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"];

/// More than any window, step or padding has; products of two stay within 64 bits.
const MOST: i64 = 1 << 31;

/// A sliding window as the attributes state it: anything absent takes its default once the rank is known.
#[derive(Debug)]
pub struct Window {
    /// Of a pool; a convolution has its weight's.
    pub kernel: Option<Vec<i64>>,
    strides: Option<Vec<i64>>,
    dilations: Option<Vec<i64>>,
    pads: Option<Vec<i64>>,
    auto_pad: String,
    ceil: bool,
}

/// A [`Window`] with every number known, for one input shape; each list has one entry a spatial axis.
#[derive(Debug)]
pub struct ResolvedWindow {
    /// Steps of the window.
    pub strides: Vec<i64>,
    /// Gaps within the window.
    pub dilations: Vec<i64>,
    /// Padding before the first element.
    pub begin: Vec<i64>,
    /// Padding after the last.
    pub end: Vec<i64>,
    /// Output lengths.
    pub out: Vec<i64>,
}

impl Window {
    /// From a node's attributes.
    pub fn parse(attributes: &Attributes) -> OpResult<Self> {
        let auto_pad = attributes.get_str("auto_pad", "NOTSET")?.to_string();
        if !["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"].contains(&auto_pad.as_str()) {
            invalid!("auto_pad=`{auto_pad}` is not known");
        }
        let window = Self {
            kernel: attributes.opt_ints("kernel_shape")?,
            strides: attributes.opt_ints("strides")?,
            dilations: attributes.opt_ints("dilations")?,
            pads: attributes.opt_ints("pads")?,
            auto_pad,
            ceil: attributes.get_flag("ceil_mode", false)?,
        };
        for list in [&window.kernel, &window.strides, &window.dilations].into_iter().flatten() {
            if list.iter().any(|n| !(1..=MOST).contains(n)) {
                invalid!("kernel_shape, strides and dilations should be at least 1 and at most {MOST}, got {list:?}");
            }
        }
        if window.pads.iter().flatten().any(|p| !(-MOST..=MOST).contains(p)) {
            invalid!("pads should be at most {MOST}, got {:?}", window.pads);
        }
        Ok(window)
    }

    pub(super) fn auto_pad(&self) -> Option<&str> {
        self.auto_pad.starts_with("SAME").then_some(self.auto_pad.as_str())
    }

    /// The shape of an image with its padding.
    pub(super) fn padded_shape(&self, size: &[i64]) -> Vec<i64> {
        let rank = size.len().saturating_sub(2);
        let pads = self.pads.clone().unwrap_or_default();
        let pad = |i: usize| pads.get(i).copied().unwrap_or(0).max(0);
        let grown = |(a, n): (usize, &i64)| match a.checked_sub(2) {
            Some(a) => n.saturating_add(pad(a)).saturating_add(pad(a + rank)),
            None => *n,
        };
        size.iter().enumerate().map(grown).collect()
    }

    /// Strides, dilations and explicit pads; no output lengths and no automatic padding.
    pub(super) fn resolve_steps(&self, spatial: &[i64], kernel: &[i64]) -> OpResult<ResolvedWindow> {
        let rank = spatial.len();
        let ones = vec![1i64; rank];
        let strides = self.strides.clone().unwrap_or_else(|| ones.clone());
        let dilations = self.dilations.clone().unwrap_or(ones);
        let pads = self.pads.clone().unwrap_or_else(|| vec![0; 2 * rank]);
        if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank || kernel.len() != rank {
            invalid!("kernel, strides, dilations or pads do not fit {rank} spatial axes");
        }
        Ok(ResolvedWindow { strides, dilations, begin: pads[..rank].to_vec(), end: pads[rank..].to_vec(), out: vec![] })
    }

    /// The window for one input shape.
    pub fn resolve(&self, spatial: &[i64], kernel: &[i64]) -> OpResult<ResolvedWindow> {
        let mut r = self.resolve_steps(spatial, kernel)?;
        for a in 0..spatial.len() {
            let reach = (kernel[a] - 1) * r.dilations[a] + 1;
            if let Some(auto) = self.auto_pad() {
                let out = (spatial[a] + r.strides[a] - 1) / r.strides[a];
                let total = ((out - 1) * r.strides[a] + reach - spatial[a]).max(0);
                let (small, large) = (total / 2, total - total / 2);
                (r.begin[a], r.end[a]) = if auto == "SAME_UPPER" { (small, large) } else { (large, small) };
            } else if self.auto_pad == "VALID" {
                (r.begin[a], r.end[a]) = (0, 0);
            }
            let room = spatial[a] + r.begin[a] + r.end[a] - reach;
            if room < 0 {
                invalid!("a window of {reach} does not fit {} elements with their padding", room + reach);
            }
            let mut out = room / r.strides[a] + 1;
            if self.ceil && room % r.strides[a] != 0 && out * r.strides[a] < spatial[a] + r.begin[a] {
                // A window that starts inside the input (or its begin padding) counts, though it hangs over the end.
                out += 1;
            }
            r.out.push(out);
        }
        Ok(r)
    }
}

impl ResolvedWindow {
    /// Convolution pads both ends alike; what differs is padded here.
    pub(super) fn pad_for_convolution(&self, x: &Tensor) -> OpResult<(Tensor, Vec<i64>)> {
        if self.begin == self.end {
            return Ok((x.shallow_clone(), self.begin.clone()));
        }
        Ok((x.f_constant_pad_nd(self.flat_pads(&vec![0; self.begin.len()]))?, vec![0; self.begin.len()]))
    }

    /// Pads in libtorch's order (last axis first), the end lengthened by `more`.
    fn flat_pads(&self, more: &[i64]) -> Vec<i64> {
        (0..self.begin.len()).rev().flat_map(|a| [self.begin[a], self.end[a] + more[a]]).collect()
    }

    /// How far the last window hangs over the padded input.
    fn overhang(&self, spatial: &[i64], kernel: &[i64]) -> Vec<i64> {
        (0..spatial.len())
            .map(|a| {
                let reach = (kernel[a] - 1) * self.dilations[a] + 1;
                ((self.out[a] - 1) * self.strides[a] + reach - spatial[a] - self.begin[a] - self.end[a]).max(0)
            })
            .collect()
    }
}

/// Averages of integers on the input's scale are integers of it again.
const AVERAGES: Quantization = Quantization { params: ParamsOf::InputUnderTflite, ..Quantization::INTEGERS };

#[derive(Debug)]
struct Pool {
    kind: &'static str,
    window: Window,
    /// Average: padding counts as elements.
    include_pad: bool,
    /// LpPool's exponent.
    p: f64,
    column_major: bool,
}

#[derive(Debug)]
struct GlobalPool {
    max: bool,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    Ok(Some(match kind {
        "GlobalAveragePool" => Arc::new(GlobalPool { max: false }),
        "GlobalMaxPool" => Arc::new(GlobalPool { max: true }),
        _ => Arc::new(Pool {
            kind,
            window: Window::parse(attributes)?,
            include_pad: attributes.get_flag("count_include_pad", false)?,
            p: attributes.get_int("p", 2)? as f64,
            column_major: attributes.get_int("storage_order", 0)? == 1,
        }),
    }))
}

impl Pool {
    /// All windows as `[N, C, out..., kernel...]`: strided views of the padded input, no copy of overlapping elements.
    fn windows(&self, x: &Tensor, kernel: &[i64], fill: f64) -> OpResult<(Tensor, ResolvedWindow)> {
        let spatial = x.size()[2..].to_vec();
        let r = self.window.resolve(&spatial, kernel)?;
        let pads = r.flat_pads(&r.overhang(&spatial, kernel));
        let padded = x.f_pad(pads, "constant", Some(fill))?;
        let step = padded.f_contiguous()?;
        let (stride, size) = (step.stride(), step.size());
        let mut shape = size[..2].to_vec();
        let mut strides = stride[..2].to_vec();
        shape.extend(&r.out);
        strides.extend((0..kernel.len()).map(|a| stride[a + 2] * r.strides[a]));
        shape.extend(kernel);
        strides.extend((0..kernel.len()).map(|a| stride[a + 2] * r.dilations[a]));
        Ok((step.f_as_strided(shape, strides, None)?, r))
    }

    fn max(&self, x: &Tensor, kernel: &[i64]) -> OpResult<Vec<Tensor>> {
        let rank = kernel.len();
        let r = self.window.resolve(&x.size()[2..], kernel)?;
        let plain = r.begin == r.end && (0..rank).all(|a| 2 * r.begin[a] <= kernel[a]) && x.is_floating_point();
        if plain && (rank == 1 || rank == 2) && r.overhang(&x.size()[2..], kernel).iter().all(|&o| o == 0) {
            let (y, i) = match rank {
                1 => x.f_max_pool1d_with_indices(kernel, &r.strides, &r.begin, &r.dilations, false)?,
                _ => x.f_max_pool2d_with_indices(kernel, &r.strides, &r.begin, &r.dilations, false)?,
            };
            return self.with_flat_indices(x, y, i);
        }
        // Everything else (asymmetric or ceil padding, 3-d, integers) goes through the windows themselves.
        let wide = x.f_to_kind(if x.is_floating_point() { x.kind() } else { tch::Kind::Double })?;
        let (windows, r) = self.windows(&wide, kernel, f64::NEG_INFINITY)?;
        let flat = windows.f_reshape([&windows.size()[..2 + rank], &[-1]].concat())?;
        let (y, at) = flat.f_max_dim(-1, false)?;
        let spatial = x.size()[2..].to_vec();
        let mut rest = at;
        let mut position = y.f_zeros_like()?.f_to_kind(tch::Kind::Int64)?;
        let mut factor = 1;
        for a in (0..rank).rev() {
            let inside = rest.f_remainder(kernel[a])?;
            rest = rest.f_floor_divide_scalar(kernel[a])?;
            let mut shape = vec![1i64; 2 + rank];
            shape[a + 2] = r.out[a];
            let start = Tensor::f_arange(r.out[a], (tch::Kind::Int64, x.device()))?.f_mul_scalar(r.strides[a])?;
            let index = inside.f_mul_scalar(r.dilations[a])?.f_add(&start.f_reshape(shape)?)?.f_sub_scalar(r.begin[a])?;
            position = position.f_add(&index.f_mul_scalar(factor)?)?;
            factor *= spatial[a];
        }
        self.with_flat_indices(x, y.f_to_kind(x.kind())?, position)
    }

    /// ONNX counts indices over the whole tensor, libtorch within one channel.
    fn with_flat_indices(&self, x: &Tensor, y: Tensor, mut indices: Tensor) -> OpResult<Vec<Tensor>> {
        let size = x.size();
        let plane: i64 = size[2..].iter().product();
        if self.column_major && size.len() == 4 {
            let (h, w) = (size[2], size[3]);
            let (row, column) = (indices.f_floor_divide_scalar(w)?, indices.f_remainder(w)?);
            indices = column.f_mul_scalar(h)?.f_add(&row)?;
        }
        let channels = Tensor::f_arange(size[0] * size[1], (tch::Kind::Int64, x.device()))?.f_mul_scalar(plane)?;
        let mut shape = vec![1i64; size.len()];
        (shape[0], shape[1]) = (size[0], size[1]);
        Ok(vec![y, indices.f_add(&channels.f_reshape(shape)?)?])
    }

    fn average(&self, x: &Tensor, kernel: &[i64]) -> OpResult<Tensor> {
        let rank = kernel.len();
        let r = self.window.resolve(&x.size()[2..], kernel)?;
        let plain = r.begin == r.end
            && r.dilations.iter().all(|&d| d == 1)
            && (0..rank).all(|a| 2 * r.begin[a] <= kernel[a])
            && r.overhang(&x.size()[2..], kernel).iter().all(|&o| o == 0);
        if plain && rank == 2 {
            return Ok(x.f_avg_pool2d(kernel, &r.strides, &r.begin, false, self.include_pad, None)?);
        }
        let axes: Vec<i64> = (2 + rank as i64..2 + 2 * rank as i64).collect();
        let (windows, r) = self.windows(x, kernel, 0.0)?;
        let sum = windows.f_sum_dim_intlist(&axes[..], false, x.kind())?;
        // How many elements each window holds: windows over ones, the padding counted or not; the overhang never is.
        let ones = Tensor::f_ones([&[1, 1], &x.size()[2..]].concat(), (x.kind(), x.device()))?;
        let ones = if self.include_pad { ones.f_pad(r.flat_pads(&vec![0; rank]), "constant", Some(1.0))? } else { ones };
        let count = if self.include_pad {
            let bare = Pool {
                kind: self.kind,
                window: Window {
                    kernel: None,
                    strides: self.window.strides.clone(),
                    dilations: self.window.dilations.clone(),
                    pads: None,
                    auto_pad: "NOTSET".into(),
                    ceil: self.window.ceil,
                },
                include_pad: false,
                p: self.p,
                column_major: false,
            };
            let (w, found) = bare.windows(&ones, kernel, 0.0)?;
            if found.out != r.out {
                invalid!("the window does not fit the padded input")
            }
            w.f_sum_dim_intlist(&axes[..], false, x.kind())?
        } else {
            self.windows(&ones, kernel, 0.0)?.0.f_sum_dim_intlist(&axes[..], false, x.kind())?
        };
        Ok(sum.f_div(&count)?)
    }
}

impl Operator for Pool {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let Some(kernel) = self.window.kernel.as_deref() else { invalid!("kernel_shape is missing") };
        if x.dim() != kernel.len() + 2 {
            invalid!("a window of {} axes does not fit an input of shape {:?}", kernel.len(), x.size());
        }
        match self.kind {
            "MaxPool" => self.max(x, kernel),
            "AveragePool" => Ok(vec![self.average(x, kernel)?]),
            _ => {
                let (windows, _) = self.windows(&x.f_abs()?.f_pow_tensor_scalar(self.p)?, kernel, 0.0)?;
                let axes: Vec<i64> = (x.dim() as i64..(x.dim() + kernel.len()) as i64).collect();
                Ok(vec![windows.f_sum_dim_intlist(&axes[..], false, x.kind())?.f_pow_tensor_scalar(1.0 / self.p)?])
            }
        }
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        Ok(Some(self.window.padded_shape(&inputs.get(0)?.size())))
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        let window: i64 = self.window.kernel.iter().flatten().product();
        Cost { macs: 0, other: shapes.output_len(0) * window.max(1) as u64 }
    }

    fn axes(&self, links: &mut AxisLinks) {
        per_channel(links);
    }

    fn quantization(&self) -> Quantization {
        match self.kind {
            "MaxPool" => Quantization::MOVES,
            "AveragePool" => AVERAGES,
            _ => Quantization::FLOAT,
        }
    }

    fn is_homogeneous(&self) -> bool {
        matches!(self.kind, "MaxPool" | "AveragePool")
    }
}

impl Operator for GlobalPool {
    fn kind(&self) -> &'static str {
        if self.max { "GlobalMaxPool" } else { "GlobalAveragePool" }
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axes: Vec<i64> = (2..x.dim() as i64).collect();
        Ok(vec![match (axes.is_empty(), self.max) {
            (true, _) => x.shallow_clone(),
            (_, true) => x.f_amax(&axes[..], true)?,
            _ => x.f_mean_dim(&axes[..], true, x.kind())?,
        }])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: shapes.input_len(0) }
    }

    fn axes(&self, links: &mut AxisLinks) {
        per_channel(links);
    }

    fn quantization(&self) -> Quantization {
        if self.max { Quantization::FLOAT } else { AVERAGES }
    }

    fn is_homogeneous(&self) -> bool {
        !self.max
    }
}

/// Batch and channel pass through; spatial axes keep their lengths.
fn per_channel(links: &mut AxisLinks) {
    for o in 0..links.shapes.outputs.len() {
        links.same((Slot::In(0), 0), (Slot::Out(o), 0));
        links.same((Slot::In(0), 1), (Slot::Out(o), 1));
        for a in 2..links.shape(Slot::In(0)).len() {
            links.fix((Slot::In(0), a));
            links.fix((Slot::Out(o), a));
        }
    }
}
