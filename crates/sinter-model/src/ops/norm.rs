//! Normalisation layers.

use std::sync::Arc;

use tch::Tensor;

use super::{own, wrap_axis};
use crate::attributes::{Attribute, Attributes};
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::OutputScale;
use crate::error::{OpResult, invalid};
use crate::op::{Adapted, Cost, Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &[
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
];

#[derive(Debug)]
struct Norm {
    kind: &'static str,
    epsilon: f64,
    momentum: f64,
    axis: i64,
    axes: Option<Vec<i64>>,
    /// Groups, the size of the LRN window, or the p of the Lp norm.
    count: i64,
    lrn: (f64, f64, f64),
    /// Features of a layer normalisation that pruning removed: mean and variance count them as zeros, as if they were still there.
    removed: i64,
}

/// What ONNX has no attribute for; exports spell it out.
const REMOVED: &str = "removed_features";

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    if kind == "BatchNormalization" && attributes.get_int("training_mode", 0)? != 0 {
        invalid!("training_mode=1 is not supported: export the model for inference");
    }
    let count = match kind {
        "GroupNormalization" => attributes.get_int("num_groups", 1)?,
        "LRN" => attributes.get_int("size", 1)?,
        _ => attributes.get_int("p", 2)?,
    };
    Ok(Some(Arc::new(Norm {
        kind,
        epsilon: attributes.get_float("epsilon", 1e-5)?,
        momentum: attributes.get_float("momentum", 0.9)?,
        axis: attributes.get_int("axis", -1)?,
        axes: attributes.opt_ints("axes")?,
        count,
        removed: attributes.get_int(REMOVED, 0)?,
        lrn: (attributes.get_float("alpha", 1e-4)?, attributes.get_float("beta", 0.75)?, attributes.get_float("bias", 1.0)?),
    })))
}

impl Norm {
    fn layer(&self, inputs: &Inputs) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let axis = wrap_axis(self.axis, x.dim())?;
        let axes: Vec<i64> = (axis..x.dim() as i64).collect();
        if self.removed > 0 {
            return self.layer_with_removed(x, &axes, inputs);
        }
        let mean = x.f_mean_dim(&axes[..], true, x.kind())?;
        if inputs.opt(1).is_some_and(|s| s.size() == x.size()[axis as usize..]) {
            let y = x.f_layer_norm(&x.size()[axis as usize..], inputs.opt(1), inputs.opt(2), self.epsilon, false)?;
            let var = x.f_var_dim(&axes[..], false, true)?;
            return Ok(vec![y, mean, var.f_add_scalar(self.epsilon)?.f_rsqrt()?]);
        }
        let centred = x.f_sub(&mean)?;
        let var = centred.f_square()?.f_mean_dim(&axes[..], true, x.kind())?;
        let inverse = var.f_add_scalar(self.epsilon)?.f_rsqrt()?;
        let mut y = centred.f_mul(&inverse)?.f_mul(inputs.get(1)?)?;
        if let Some(bias) = inputs.opt(2) {
            y = y.f_add(bias)?;
        }
        Ok(vec![y, mean, inverse])
    }

    fn layer_with_removed(&self, x: &Tensor, axes: &[i64], inputs: &Inputs) -> OpResult<Vec<Tensor>> {
        let here: i64 = axes.iter().map(|&a| x.size()[a as usize]).product();
        let all = (here + self.removed) as f64;
        let mean = x.f_sum_dim_intlist(axes, true, x.kind())?.f_div_scalar(all)?;
        let centred = x.f_sub(&mean)?;
        // Each zero lies as far from the mean as the mean from zero.
        let zeros = mean.f_square()?.f_mul_scalar(self.removed as f64)?;
        let var = centred.f_square()?.f_sum_dim_intlist(axes, true, x.kind())?.f_add(&zeros)?.f_div_scalar(all)?;
        let inverse = var.f_add_scalar(self.epsilon)?.f_rsqrt()?;
        let mut y = centred.f_mul(&inverse)?.f_mul(inputs.get(1)?)?;
        if let Some(bias) = inputs.opt(2) {
            y = y.f_add(bias)?;
        }
        Ok(vec![y, mean, inverse])
    }

    fn local_response(&self, x: &Tensor) -> OpResult<Tensor> {
        let (alpha, beta, bias) = self.lrn;
        let size = self.count;
        let before = (size - 1) / 2;
        let square = x.f_square()?;
        let shape = x.size();
        let flat = square.f_reshape([shape[0], shape[1], -1])?.f_transpose(1, 2)?;
        let padded = flat.f_constant_pad_nd([before, size - 1 - before])?;
        let sum = padded.f_unfold(-1, size, 1)?.f_sum_dim_intlist(-1, false, x.kind())?;
        let sum = sum.f_transpose(1, 2)?.f_reshape(&shape[..])?;
        let scale = sum.f_mul_scalar(alpha / size as f64)?.f_add_scalar(bias)?.f_pow_tensor_scalar(beta)?;
        Ok(x.f_div(&scale)?)
    }
}

impl Operator for Norm {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        Ok(match self.kind {
            "BatchNormalization" => {
                // libtorch's momentum weighs the new value, ONNX's the old one. Statistics are updated in place.
                let (train, momentum) = (mode == Mode::Train, 1.0 - self.momentum);
                let (mean, var) = (inputs.get(3)?, inputs.get(4)?);
                vec![x.f_batch_norm(inputs.opt(1), inputs.opt(2), Some(mean), Some(var), train, momentum, self.epsilon, false)?]
            }
            "InstanceNormalization" => {
                vec![x.f_instance_norm(inputs.opt(1), inputs.opt(2), None::<&Tensor>, None, true, 0.0, self.epsilon, false)?]
            }
            "GroupNormalization" => {
                let channels = x.size().get(1).copied().unwrap_or(1);
                let wide = |t: Option<&Tensor>| match t {
                    // Before opset 21 scale and bias were per group.
                    Some(t) if t.numel() as i64 != channels => {
                        t.f_repeat_interleave_self_int(channels / t.numel().max(1) as i64, 0, None).map(Some)
                    }
                    Some(t) => Ok(Some(t.shallow_clone())),
                    None => Ok(None),
                };
                let (scale, bias) = (wide(inputs.opt(1))?, wide(inputs.opt(2))?);
                vec![x.f_group_norm(self.count, scale.as_ref(), bias.as_ref(), self.epsilon, false)?]
            }
            "LayerNormalization" => self.layer(inputs)?,
            "LRN" => vec![self.local_response(x)?],
            "LpNormalization" => {
                let norm = x.f_norm_scalaropt_dim(self.count, [self.axis], true)?;
                vec![x.f_div(&norm)?.f_nan_to_num(0.0, None, None)?]
            }
            "MeanVarianceNormalization" => {
                let axes = self.axes.clone().unwrap_or_else(|| vec![0, 2, 3]);
                let centred = x.f_sub(&x.f_mean_dim(&axes[..], true, x.kind())?)?;
                let deviation = centred.f_square()?.f_mean_dim(&axes[..], true, x.kind())?.f_sqrt()?;
                vec![centred.f_div(&deviation.f_add_scalar(1e-9)?)?]
            }
            other => invalid!("`{other}` is not a normalisation"),
        })
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: 2 * shapes.output_len(0) }
    }

    fn adapt(&self, attributes: &Attributes, old: &IoShapes, new: &IoShapes) -> Adapted {
        let features = |shapes: &IoShapes| shapes.inputs.first()?.as_ref()?.last().copied();
        match (self.kind, features(old), features(new)) {
            ("LayerNormalization", Some(old), Some(new)) if new < old => {
                let removed = Attribute::Int(self.removed + old - new);
                Adapted { attributes: Some(attributes.clone().with(REMOVED, removed)), constants: vec![] }
            }
            _ => Adapted::default(),
        }
    }

    fn axes(&self, links: &mut AxisLinks) {
        match self.kind {
            "BatchNormalization" | "InstanceNormalization" => {
                links.same_shape(0, 0);
                (1..links.shapes.inputs.len()).for_each(|i| links.same((Slot::In(i), 0), (Slot::Out(0), 1)));
            }
            "LayerNormalization" => {
                // What is removed still counts, as zeros (see `adapt`); that is told of the last axis alone.
                links.same_shape(0, 0);
                let rank = links.shape(Slot::In(0)).len();
                if let Ok(first) = wrap_axis(self.axis, rank)
                    && first as usize + 1 < rank
                {
                    (first as usize..rank).for_each(|a| links.fix((Slot::In(0), a)));
                }
                (1..links.shapes.inputs.len()).for_each(|i| links.broadcast(i));
                for o in 1..links.shapes.outputs.len() {
                    links.fix_slot(Slot::Out(o));
                }
            }
            _ => links.fix_all(),
        }
    }

    fn batch_norm(&self) -> Option<f64> {
        (self.kind == "BatchNormalization").then_some(self.epsilon)
    }

    fn output_scale(&self) -> Option<OutputScale> {
        (self.kind == "LayerNormalization").then_some(OutputScale { weight: (1, 0), bias: 2, normalised: true })
    }
}
