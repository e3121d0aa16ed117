//! Operators that pick or place elements by index: gather, scatter, slice, one-hot.

use std::sync::Arc;

use tch::{Kind, Tensor};

use super::{own, wrap_axis};
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::Quantization;
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator};

pub(super) const KINDS: &[&str] = &[
    "Compress",
    "Gather",
    "GatherElements",
    "GatherND",
    "NonZero",
    "OneHot",
    "ReverseSequence",
    "ScatterElements",
    "ScatterND",
    "Slice",
];

#[derive(Debug)]
struct Select {
    kind: &'static str,
    axis: i64,
    batch_dims: i64,
    time_axis: i64,
    reduction: String,
    /// Whether Compress has no axis, and goes through all elements.
    whole: bool,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let reduction = attributes.get_str("reduction", "none")?.to_string();
    if !["none", "add", "mul"].contains(&reduction.as_str()) {
        invalid!("reduction `{reduction}` is not supported");
    }
    Ok(Some(Arc::new(Select {
        kind,
        axis: match kind {
            "OneHot" => attributes.get_int("axis", -1)?,
            "ReverseSequence" => attributes.get_int("batch_axis", 1)?,
            _ => attributes.get_int("axis", 0)?,
        },
        batch_dims: attributes.get_int("batch_dims", 0)?,
        time_axis: attributes.get_int("time_axis", 0)?,
        reduction,
        whole: attributes.opt_int("axis")?.is_none(),
    })))
}

/// Indices counted from the end when negative.
fn wrap_indices(indices: &Tensor, len: i64) -> OpResult<Tensor> {
    let indices = indices.f_to_kind(Kind::Int64)?;
    let wrapped = indices.f_add_scalar(len)?.f_where_self(&indices.f_lt(0)?, &indices)?;
    if wrapped.numel() > 0 {
        let (least, most) = (wrapped.f_min()?.f_int64_value(&[])?, wrapped.f_max()?.f_int64_value(&[])?);
        if least < 0 || most >= len {
            // As it was given: one below 0 counts from the end.
            let index = if most >= len { most } else { least - len };
            invalid!(
                "index {index} is outside an axis of {len}: the data, or what the model computes from it, asks for more than there is"
            );
        }
    }
    Ok(wrapped)
}

impl Select {
    fn gather(&self, x: &Tensor, indices: &Tensor) -> OpResult<Tensor> {
        let axis = wrap_axis(self.axis, x.dim())?;
        let wrapped = wrap_indices(indices, x.size()[axis as usize])?;
        let picked = x.f_index_select(axis, &wrapped.f_reshape([-1])?)?;
        let size = x.size();
        let shape = [&size[..axis as usize], &indices.size(), &size[axis as usize + 1..]].concat();
        Ok(picked.f_reshape(shape)?)
    }

    fn slice(&self, inputs: &Inputs) -> OpResult<Tensor> {
        let x = inputs.get(0)?;
        let (Some(starts), Some(ends)) = (inputs.ints(1)?, inputs.ints(2)?) else { invalid!("starts or ends are missing") };
        let axes = inputs.ints(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = inputs.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            invalid!("starts, ends, axes and steps differ in length");
        }
        let mut y = x.shallow_clone();
        for i in 0..starts.len() {
            let axis = wrap_axis(axes[i], x.dim())?;
            let n = x.size()[axis as usize];
            let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
            match steps[i] {
                0 => invalid!("a step of 0 is not possible"),
                step if step > 0 => {
                    let (from, to) = (wrap(starts[i]).clamp(0, n), wrap(ends[i]).clamp(0, n));
                    y = y.f_slice(axis, from, to.max(from), step)?;
                }
                step => {
                    let (from, to) = (wrap(starts[i]).clamp(-1, n - 1), wrap(ends[i]).clamp(-1, n - 1));
                    let mut index = Vec::new();
                    let mut at = from;
                    while at > to {
                        index.push(at);
                        at = at.saturating_add(step);
                    }
                    y = y.f_index_select(axis, &Tensor::from_slice(&index).f_to_device(x.device())?)?;
                }
            }
        }
        Ok(y)
    }

    /// Indices of the last axis as positions into the first `k` axes of a tensor of shape `size`, flattened.
    fn flat_positions(indices: &Tensor, size: &[i64]) -> OpResult<Tensor> {
        let mut flat: Option<Tensor> = None;
        for (a, &n) in size.iter().enumerate() {
            let part = wrap_indices(&indices.f_select(-1, a as i64)?, n)?;
            flat = Some(match flat {
                Some(so_far) => so_far.f_mul_scalar(n)?.f_add(&part)?,
                None => part,
            });
        }
        match flat {
            Some(flat) => Ok(flat.f_reshape([-1])?),
            None => invalid!("indices of no axes"),
        }
    }

    fn gather_nd(&self, x: &Tensor, indices: &Tensor) -> OpResult<Tensor> {
        let b = self.batch_dims as usize;
        let (size, index_size) = (x.size(), indices.size());
        let Some((&k, lead)) = index_size.split_last() else { invalid!("indices need at least one axis") };
        let k = k as usize;
        if b + k > size.len() || b > lead.len() {
            invalid!("indices of shape {index_size:?} do not fit an input of shape {size:?}");
        }
        // Batch axes become one, and its number becomes the first coordinate.
        let batch: i64 = size[..b].iter().product();
        let merged = x.f_reshape([&[batch], &size[b..]].concat())?;
        let per: i64 = lead[b..].iter().product();
        let inner = indices.f_to_kind(Kind::Int64)?.f_reshape([batch, per, k as i64])?;
        let number =
            Tensor::f_arange(batch, (Kind::Int64, x.device()))?.f_reshape([batch, 1, 1])?.f_expand([batch, per, 1], false)?;
        let full = Tensor::f_cat(&[&number, &inner], -1)?;
        let positions = Self::flat_positions(&full, &merged.size()[..k + 1])?;
        let head: i64 = merged.size()[..k + 1].iter().product();
        let tail = size[b + k..].to_vec();
        let rows = merged.f_reshape([&[head], &tail[..]].concat())?.f_index_select(0, &positions)?;
        Ok(rows.f_reshape([lead, &tail[..]].concat())?)
    }

    fn scatter(&self, x: &Tensor, axis: i64, index: &Tensor, src: &Tensor) -> OpResult<Tensor> {
        Ok(match self.reduction.as_str() {
            "none" => x.f_scatter(axis, index, src)?,
            "add" => x.f_scatter_reduce(axis, index, src, "add")?,
            "mul" => x.f_scatter_reduce(axis, index, src, "multiply")?,
            other => invalid!("reduction `{other}` is not supported"),
        })
    }

    fn scatter_nd(&self, x: &Tensor, indices: &Tensor, updates: &Tensor) -> OpResult<Tensor> {
        let size = x.size();
        let k = *indices.size().last().unwrap_or(&0) as usize;
        if k == 0 || k > size.len() {
            invalid!("indices of shape {:?} do not fit an input of shape {size:?}", indices.size());
        }
        let positions = Self::flat_positions(indices, &size[..k])?;
        let head: i64 = size[..k].iter().product();
        let row: i64 = size[k..].iter().product();
        let src = updates.f_reshape([-1, row])?;
        let index = positions.f_reshape([-1, 1])?.f_expand([positions.numel() as i64, row], false)?;
        Ok(self.scatter(&x.f_reshape([head, row])?, 0, &index, &src)?.f_reshape(size)?)
    }

    fn one_hot(&self, indices: &Tensor, depth: i64, values: &Tensor) -> OpResult<Tensor> {
        let axis = if self.axis < 0 { self.axis + indices.dim() as i64 + 1 } else { self.axis };
        let indices = indices.f_to_kind(Kind::Int64)?;
        let wrapped = indices.f_add_scalar(depth)?.f_where_self(&indices.f_lt(0)?, &indices)?.f_unsqueeze(axis)?;
        let mut shape = vec![1i64; indices.dim() + 1];
        shape[axis as usize] = depth;
        let steps = Tensor::f_arange(depth, (Kind::Int64, indices.device()))?.f_reshape(shape)?;
        let hit = wrapped.f_eq_tensor(&steps)?;
        let (off, on) = (values.f_select(0, 0)?, values.f_select(0, 1)?);
        Ok(on.f_where_self(&hit, &off)?)
    }

    fn reverse_sequence(&self, x: &Tensor, lengths: &[i64]) -> OpResult<Tensor> {
        let (batch, time) = (wrap_axis(self.axis, x.dim())?, wrap_axis(self.time_axis, x.dim())?);
        if lengths.len() as i64 != x.size()[batch as usize] || lengths.iter().any(|n| !(0..=x.size()[time as usize]).contains(n))
        {
            invalid!("lengths {lengths:?} do not fit an input of shape {:?}", x.size());
        }
        let steps = x.size()[time as usize];
        let mut parts = Vec::new();
        for (i, &n) in lengths.iter().enumerate() {
            let one = x.f_narrow(batch, i as i64, 1)?;
            let head = one.f_narrow(time, 0, n)?.f_flip([time])?;
            parts.push(Tensor::f_cat(&[&head, &one.f_narrow(time, n, steps - n)?], time)?);
        }
        Ok(Tensor::f_cat(&parts, batch)?)
    }
}

impl Operator for Select {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        Ok(vec![match self.kind {
            "Gather" => self.gather(x, inputs.get(1)?)?,
            "GatherElements" => {
                let axis = wrap_axis(self.axis, x.dim())?;
                x.f_gather(axis, &wrap_indices(inputs.get(1)?, x.size()[axis as usize])?, false)?
            }
            "GatherND" => self.gather_nd(x, inputs.get(1)?)?,
            "Compress" => {
                let (flat, axis) = match self.whole {
                    true => (x.f_reshape([-1])?, 0),
                    false => (x.shallow_clone(), wrap_axis(self.axis, x.dim())?),
                };
                // A condition that is shorter takes nothing of the rest.
                let chosen = inputs.get(1)?.f_reshape([-1])?.f_nonzero()?.f_reshape([-1])?;
                flat.f_index_select(axis, &wrap_indices(&chosen, flat.size()[axis as usize])?)?
            }
            "NonZero" => x.f_nonzero()?.f_tr()?.f_contiguous()?,
            "OneHot" => {
                let Some(depth) = inputs.ints(1)?.and_then(|d| d.first().copied()) else { invalid!("the depth is missing") };
                self.one_hot(x, depth, inputs.get(2)?)?
            }
            "ReverseSequence" => self.reverse_sequence(x, &inputs.ints(1)?.unwrap_or_default())?,
            "ScatterElements" => {
                let axis = wrap_axis(self.axis, x.dim())?;
                let index = wrap_indices(inputs.get(1)?, x.size()[axis as usize])?;
                self.scatter(x, axis, &index, inputs.get(2)?)?
            }
            "ScatterND" => self.scatter_nd(x, inputs.get(1)?, inputs.get(2)?)?,
            "Slice" => self.slice(inputs)?,
            other => invalid!("`{other}` does not select"),
        }])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        let x = inputs.get(0)?;
        Ok(match self.kind {
            "Gather" => {
                let axis = wrap_axis(self.axis, x.dim())? as usize;
                let size = x.size();
                Some([&size[..axis], &inputs.get(1)?.size(), &size[axis + 1..]].concat())
            }
            "GatherND" => {
                let (size, index) = (x.size(), inputs.get(1)?.size());
                let Some((&k, lead)) = index.split_last() else { return Ok(None) };
                let from = (self.batch_dims.max(0) as usize).saturating_add(k.max(0) as usize).min(size.len());
                Some([lead, &size[from..]].concat())
            }
            "OneHot" => {
                let depth = inputs.ints(1)?.and_then(|d| d.first().copied()).unwrap_or(0);
                Some([&x.size()[..], &[depth]].concat())
            }
            _ => None,
        })
    }

    fn cost(&self, _shapes: &IoShapes) -> Cost {
        Cost::default()
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (x, y) = (Slot::In(0), Slot::Out(0));
        match self.kind {
            "Slice" => {
                for a in 0..links.shape(x).len() {
                    if links.shape(x)[a] == links.shape(y)[a] {
                        links.same((x, a), (y, a));
                    } else {
                        links.fix((x, a));
                        links.fix((y, a));
                    }
                }
            }
            "Gather" => {
                let rank = links.shape(x).len();
                let Ok(axis) = wrap_axis(self.axis, rank) else { return links.fix_all() };
                let grown = links.shape(Slot::In(1)).len();
                for a in 0..rank {
                    match a as i64 {
                        a if a == axis => links.fix((x, a as usize)),
                        before if before < axis => links.same((x, a), (y, a)),
                        _ => links.same((x, a), (y, a + grown - 1)),
                    }
                }
                for g in 0..grown {
                    links.fix((y, axis as usize + g));
                }
            }
            _ => links.fix_all(),
        }
    }

    fn table(&self) -> Option<usize> {
        (self.kind == "Gather" && self.axis == 0).then_some(0)
    }

    fn quantization(&self) -> Quantization {
        if self.kind == "Slice" { Quantization::MOVES } else { Quantization::FLOAT }
    }

    fn gives_reals(&self) -> bool {
        self.kind != "NonZero"
    }
}
