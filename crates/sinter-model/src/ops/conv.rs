//! Convolution and transposed convolution over one, two or three spatial axes.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::linear::centred;
use super::own;
use super::pool::Window;
use crate::attributes::{Attribute, Attributes};
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::{IntegerKernel, OutputScale, Quantization};
use crate::error::{OpResult, invalid};
use crate::op::{Adapted, Cost, Inputs, Mode, Operator, WeightSlot};

pub(super) const KINDS: &[&str] = &["Conv", "ConvInteger", "ConvTranspose"];

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let window = Window::parse(attributes)?;
    let groups = attributes.get_int("group", 1)?;
    if groups < 1 {
        invalid!("group={groups} should be at least 1");
    }
    Ok(Some(match kind {
        "Conv" => Arc::new(Conv { window, groups }),
        "ConvInteger" => Arc::new(ConvInteger(Conv { window, groups })),
        _ => Arc::new(ConvTranspose {
            window,
            groups,
            output_padding: attributes.opt_ints("output_padding")?,
            output_shape: attributes.opt_ints("output_shape")?,
        }),
    }))
}

/// y = x * w + b, with x `[N, C, spatial...]`, w `[M, C / groups, kernel...]`, b `[M]`.
#[derive(Debug)]
struct Conv {
    window: Window,
    groups: i64,
}

impl Conv {
    /// Each input channel has output channels of its own.
    fn is_depthwise(&self, shapes: &IoShapes) -> bool {
        let channels = shapes.inputs.first().and_then(|s| s.as_ref()).and_then(|s| s.get(1));
        self.groups > 1 && channels == Some(&self.groups)
    }
}

impl Operator for Conv {
    fn kind(&self) -> &'static str {
        "Conv"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let (x, w) = (inputs.get(0)?, inputs.get(1)?);
        let rank = x.dim().saturating_sub(2);
        if rank == 0 || w.dim() != x.dim() {
            invalid!("input of shape {:?} and weight of shape {:?} do not fit", x.size(), w.size());
        }
        let kernel = &w.size()[2..];
        let window = self.window.resolve(&x.size()[2..], kernel)?;
        let (x, padding) = window.pad_for_convolution(x)?;
        let x = if rank == 2 && x.device() == Device::Cpu { channels_last(&x)? } else { x };
        Ok(vec![x.f_convolution(
            w,
            inputs.opt(2),
            &window.strides,
            padding,
            &window.dilations,
            false,
            vec![0i64; rank],
            self.groups,
        )?])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        let (x, w) = (inputs.get(0)?.size(), inputs.get(1)?.size());
        if x.len() < 3 || w.len() != x.len() {
            return Ok(None);
        }
        let padded = self.window.padded_shape(&x);
        let out = [&[x[0], w[0]][..], &self.window.resolve(&x[2..], &w[2..])?.out].concat();
        let size = |shape: &[i64]| shape.iter().fold(1i64, |all, &n| all.saturating_mul(n));
        Ok(Some(if size(&out) > size(&padded) { out } else { padded }))
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        let kernel: u64 = match shapes.inputs.get(1) {
            Some(Some(w)) => w[1..].iter().map(|&n| n as u64).product(),
            _ => 0,
        };
        Cost { macs: shapes.output_len(0) * kernel, other: 0 }
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (x, w, b, y) = (Slot::In(0), Slot::In(1), Slot::In(2), Slot::Out(0));
        links.same((x, 0), (y, 0));
        for a in 2..links.shape(w).len() {
            [x, w, y].into_iter().for_each(|slot| links.fix((slot, a)));
        }
        links.same((w, 0), (y, 1));
        links.same((b, 0), (y, 1));
        if self.groups == 1 {
            links.same((w, 1), (x, 1));
        } else if self.is_depthwise(links.shapes) {
            links.fix((w, 1));
            match links.shape(y)[1] == links.shape(x)[1] {
                true => links.same((x, 1), (y, 1)),
                false => links.block((x, 1), (y, 1)),
            }
        } else {
            // Groups of several channels each: an index of the weight's inputs means another channel in every group, so groups go whole.
            links.fix((w, 1));
            links.parts((x, 1), (y, 1), self.groups as usize);
        }
    }

    fn weights(&self, _shapes: &IoShapes) -> Vec<WeightSlot> {
        vec![WeightSlot { input: 1, bias: Some(2), out_axis: 0, in_axis: 1 }]
    }

    fn columns(&self, inputs: &Inputs) -> OpResult<Option<Tensor>> {
        let (x, w) = (inputs.get(0)?, inputs.get(1)?);
        if self.groups != 1 || w.dim() != x.dim() || !(3..=4).contains(&x.dim()) {
            return Ok(None);
        }
        let window = self.window.resolve(&x.size()[2..], &w.size()[2..])?;
        let (x, padding) = window.pad_for_convolution(x)?;
        // One spatial axis is two of which the first has length 1.
        let flat = x.dim() == 3;
        let two = |values: &[i64], one: i64| if flat { [one, values[0]] } else { [values[0], values[1]] };
        let x = if flat { x.f_unsqueeze(2)? } else { x };
        let patches = x.f_im2col(two(&w.size()[2..], 1), two(&window.dilations, 1), two(&padding, 0), two(&window.strides, 1))?;
        let fan_in = patches.size()[1];
        Ok(Some(patches.f_transpose(1, 2)?.f_reshape([-1, fan_in])?))
    }

    fn adapt(&self, attributes: &Attributes, old: &IoShapes, new: &IoShapes) -> Adapted {
        let channels = new.inputs.first().and_then(|s| s.as_ref()).and_then(|s| s.get(1)).copied();
        let before = old.inputs.first().and_then(|s| s.as_ref()).and_then(|s| s.get(1)).copied();
        match (channels, before) {
            (Some(channels), Some(before)) if self.groups > 1 && channels != before => {
                // As many channels a group as before, in fewer groups.
                let groups = channels / (before / self.groups).max(1);
                Adapted { attributes: Some(attributes.clone().with("group", Attribute::Int(groups))), constants: vec![] }
            }
            _ => Adapted::default(),
        }
    }

    fn quantization(&self) -> Quantization {
        Quantization::INTEGERS
    }

    fn integer_kernel(&self) -> Option<IntegerKernel> {
        Some(IntegerKernel::Product { out_axis: 0, convolution: true })
    }

    fn takes_batch_norm(&self) -> bool {
        true
    }

    fn channel_axis(&self, _rank: usize) -> Option<usize> {
        Some(1)
    }

    fn reader_axis(&self, weight: &[i64]) -> Option<usize> {
        match weight {
            _ if self.groups == 1 => Some(1),
            // Each channel has a filter of its own.
            [outputs, 1, ..] if *outputs == self.groups => Some(0),
            _ => None,
        }
    }

    fn output_scale(&self) -> Option<OutputScale> {
        Some(OutputScale { weight: (1, 0), bias: 2, normalised: false })
    }

    fn mean_shift(&self, change: &Tensor, mean: &Tensor) -> OpResult<Option<Tensor>> {
        let (channels, size) = (mean.numel() as i64, change.size());
        let [outputs, each, ..] = size[..] else { return Ok(None) };
        if each <= 0 || channels % each != 0 || outputs % (channels / each).max(1) != 0 {
            return Ok(None);
        }
        let groups = (channels / each).max(1);
        let sums = change.f_flatten(2, -1).or_else(|_| change.f_unsqueeze(-1))?.f_sum_dim_intlist(-1, false, Kind::Double)?;
        let product = sums.f_view([groups, outputs / groups, each])?.f_matmul(&mean.f_view([groups, each, 1])?)?;
        Ok(Some(product.f_reshape([-1])?))
    }
}

/// A convolution of integers less their zero points, summed in 32 bits; inputs x, w, and the zero points of both.
#[derive(Debug)]
struct ConvInteger(Conv);

impl Operator for ConvInteger {
    fn kind(&self) -> &'static str {
        "ConvInteger"
    }

    fn forward(&self, inputs: &Inputs, mode: Mode) -> OpResult<Vec<Tensor>> {
        let (x, w) = (inputs.get(0)?, inputs.get(1)?);
        let each = |z: &Tensor| match z.numel() {
            1 => z.f_reshape([0i64; 0]),
            n => z.f_reshape([&[n as i64][..], &vec![1; w.dim().saturating_sub(1)]].concat()),
        };
        let x = centred(x, inputs.opt(2))?;
        let w = centred(w, inputs.opt(3).map(each).transpose()?.as_ref())?;
        let y = self.0.forward(&Inputs(&[Some(x), Some(w)]), mode)?.swap_remove(0);
        Ok(vec![y.f_round()?.f_to_kind(Kind::Int)?])
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        self.0.cost(shapes)
    }
}

/// The gradient of a convolution as a layer: x `[N, C, spatial...]`, w `[C, M / groups, kernel...]`.
#[derive(Debug)]
struct ConvTranspose {
    window: Window,
    groups: i64,
    output_padding: Option<Vec<i64>>,
    output_shape: Option<Vec<i64>>,
}

impl Operator for ConvTranspose {
    fn kind(&self) -> &'static str {
        "ConvTranspose"
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let (x, w) = (inputs.get(0)?, inputs.get(1)?);
        let rank = x.dim().saturating_sub(2);
        if rank == 0 || w.dim() != x.dim() {
            invalid!("input of shape {:?} and weight of shape {:?} do not fit", x.size(), w.size());
        }
        let kernel = &w.size()[2..];
        let spatial = &x.size()[2..];
        let window = self.window.resolve_steps(spatial, kernel)?;
        let extra = self.output_padding.clone().unwrap_or_else(|| vec![0; rank]);
        if extra.len() != rank {
            invalid!("output_padding {extra:?} does not fit {rank} spatial axes");
        }
        // Without padding the output is the longest possible; then cut the begin and the end of each axis.
        let full: Vec<i64> = (0..rank)
            .map(|a| window.strides[a] * (spatial[a] - 1) + extra[a] + (kernel[a] - 1) * window.dilations[a] + 1)
            .collect();
        let (mut begin, mut end) = (window.begin.clone(), window.end.clone());
        let wanted = match (&self.output_shape, self.window.auto_pad()) {
            (Some(shape), _) => Some(shape[shape.len().saturating_sub(rank)..].to_vec()),
            (None, Some(_)) => Some((0..rank).map(|a| spatial[a] * window.strides[a]).collect()),
            _ => None,
        };
        if let Some(wanted) = wanted {
            for a in 0..rank {
                let total = full[a] - wanted[a];
                let (small, large) = (total.div_euclid(2), total - total.div_euclid(2));
                (begin[a], end[a]) = if self.window.auto_pad() == Some("SAME_UPPER") { (small, large) } else { (large, small) };
            }
        }
        let mut y = x.f_convolution(
            w,
            inputs.opt(2),
            &window.strides,
            vec![0i64; rank],
            &window.dilations,
            true,
            vec![0i64; rank],
            self.groups,
        )?;
        for a in 0..rank {
            // Output padding lengthens the end by zeros plus the bias; a negative cut does the same.
            let axis = a as i64 + 2;
            let have = y.size()[a + 2];
            let (from, to) = (begin[a], full[a] - end[a]);
            if from < 0 || to > have {
                let mut pad = vec![0i64; 2 * (rank - a)];
                let last = pad.len() - 2;
                pad[last] = (-from).max(0);
                pad[last + 1] = (to - have).max(0);
                let bare = match inputs.opt(2) {
                    Some(b) => y.f_sub(&bias_shape(b, rank)?)?,
                    None => y,
                };
                y = bare.f_constant_pad_nd(pad)?;
                if let Some(b) = inputs.opt(2) {
                    y = y.f_add(&bias_shape(b, rank)?)?;
                }
            }
            y = y.f_narrow(axis, from.max(0), to - from)?;
        }
        Ok(vec![y])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        let (x, w) = (inputs.get(0)?.size(), inputs.get(1)?.size());
        let rank = x.len().saturating_sub(2);
        let steps = self.window.resolve_steps(&x[2.min(x.len())..], &w[2.min(w.len())..])?;
        let mut shape = vec![x.first().copied().unwrap_or(1), w.get(1).copied().unwrap_or(1).saturating_mul(self.groups)];
        for a in 0..rank {
            let more = self.output_padding.as_ref().and_then(|p| p.get(a)).copied().unwrap_or(0).max(0);
            let full = x[a + 2].saturating_mul(steps.strides[a]).saturating_add(w[a + 2].saturating_mul(steps.dilations[a]));
            let wanted = self.output_shape.as_ref().and_then(|s| s.get(s.len().checked_sub(rank)? + a)).copied().unwrap_or(0);
            shape.push(full.saturating_add(more).max(wanted));
        }
        Ok(Some(shape))
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        let kernel: u64 = match shapes.inputs.get(1) {
            Some(Some(w)) => w[1..].iter().map(|&n| n as u64).product(),
            _ => 0,
        };
        Cost { macs: shapes.input_len(0) * kernel, other: 0 }
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (x, w, b, y) = (Slot::In(0), Slot::In(1), Slot::In(2), Slot::Out(0));
        links.same((x, 0), (y, 0));
        for a in 2..links.shape(w).len() {
            [x, w, y].into_iter().for_each(|slot| links.fix((slot, a)));
        }
        if self.groups == 1 {
            links.same((w, 0), (x, 1));
            links.same((w, 1), (y, 1));
            links.same((b, 0), (y, 1));
        } else {
            [(x, 1), (w, 0), (w, 1), (b, 0), (y, 1)].into_iter().for_each(|a| links.fix(a));
        }
    }

    fn weights(&self, _shapes: &IoShapes) -> Vec<WeightSlot> {
        vec![WeightSlot { input: 1, bias: Some(2), out_axis: 1, in_axis: 0 }]
    }

    fn quantization(&self) -> Quantization {
        Quantization::INTEGERS
    }

    fn takes_batch_norm(&self) -> bool {
        // With groups, output channels lie on two axes.
        self.groups == 1
    }
}

/// The same values with the channels innermost in memory: libtorch's kernels for images then run at nearly twice the speed on a CPU, and
/// what follows keeps the order.
fn channels_last(x: &Tensor) -> OpResult<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

fn bias_shape(bias: &Tensor, rank: usize) -> OpResult<Tensor> {
    let mut shape = vec![1i64; rank + 1];
    shape[0] = bias.numel() as i64;
    Ok(bias.f_reshape(shape)?)
}
