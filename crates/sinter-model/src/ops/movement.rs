//! Operators that move elements without changing them: transpose, concatenate, split, pad, repeat.

use std::sync::Arc;

use tch::Tensor;

use super::{own, wrap_axis};
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::axes::{AxisLinks, Slot};
use crate::behaviour::Quantization;
use crate::error::{OpResult, invalid};
use crate::op::{Adapted, Cost, Inputs, Mode, Operator};
use crate::tensor::to_i64s;

pub(super) const KINDS: &[&str] =
    &["Concat", "DepthToSpace", "Expand", "Pad", "SpaceToDepth", "Split", "Tile", "Transpose", "Trilu"];

#[derive(Debug)]
enum Movement {
    Concat { axis: i64 },
    DepthToSpace { block: i64, column_first: bool },
    SpaceToDepth { block: i64 },
    Expand,
    Pad { mode: String, pads: Option<Vec<i64>> },
    Split { axis: i64, sizes: Option<Vec<i64>>, count: Option<i64> },
    Tile,
    Transpose { order: Option<Vec<i64>> },
    Trilu { upper: bool },
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let block = || match attributes.get_int("blocksize", 0)? {
        n @ 1..=65_536 => Ok(n),
        n => invalid!("blocksize={n} should be between 1 and 65536"),
    };
    Ok(Some(Arc::new(match kind {
        "Concat" => Movement::Concat { axis: attributes.get_int("axis", 0)? },
        "DepthToSpace" => Movement::DepthToSpace { block: block()?, column_first: attributes.get_str("mode", "DCR")? == "CRD" },
        "SpaceToDepth" => Movement::SpaceToDepth { block: block()? },
        "Expand" => Movement::Expand,
        "Pad" => Movement::Pad { mode: attributes.get_str("mode", "constant")?.to_string(), pads: attributes.opt_ints("pads")? },
        "Split" => Movement::Split {
            axis: attributes.get_int("axis", 0)?,
            sizes: attributes.opt_ints("split")?,
            count: attributes.opt_int("num_outputs")?,
        },
        "Tile" => Movement::Tile,
        "Transpose" => Movement::Transpose { order: attributes.opt_ints("perm")? },
        _ => Movement::Trilu { upper: attributes.get_flag("upper", true)? },
    })))
}

impl Movement {
    fn pad(&self, inputs: &Inputs, mode: &str, pads: &Option<Vec<i64>>) -> OpResult<Tensor> {
        let x = inputs.get(0)?;
        let Some(pads) = inputs.ints(1)?.or_else(|| pads.clone()) else { invalid!("the pads are missing") };
        let rank = x.dim();
        let axes = inputs.ints(3)?.unwrap_or_else(|| (0..rank as i64).collect());
        if pads.len() != 2 * axes.len() {
            invalid!("{} pads do not fit {} axes", pads.len(), axes.len());
        }
        let (mut begin, mut end) = (vec![0i64; rank], vec![0i64; rank]);
        for (i, &a) in axes.iter().enumerate() {
            let a = wrap_axis(a, rank)? as usize;
            (begin[a], end[a]) = (pads[i], pads[i + axes.len()]);
        }
        if mode == "constant" {
            let value = inputs.opt(2).map(|v| v.f_reshape([-1])?.f_double_value(&[0])).transpose()?.unwrap_or(0.0);
            let flat: Vec<i64> = (0..rank).rev().flat_map(|a| [begin[a], end[a]]).collect();
            return Ok(x.f_pad(flat, "constant", Some(value))?);
        }
        // libtorch reflects and replicates only the last axes: go by indices, axis by axis.
        let mut y = x.shallow_clone();
        for a in 0..rank {
            if begin[a] == 0 && end[a] == 0 {
                continue;
            }
            let n = x.size()[a];
            let index = (-begin[a]..n + end[a])
                .map(|i| match mode {
                    "edge" => Ok(i.clamp(0, n - 1)),
                    "wrap" => Ok(i.rem_euclid(n)),
                    "reflect" if n > 1 => {
                        let period = 2 * (n - 1);
                        let at = i.rem_euclid(period);
                        Ok(if at < n { at } else { period - at })
                    }
                    _ => invalid!("padding mode `{mode}` is not possible on an axis of {n}"),
                })
                .collect::<OpResult<Vec<i64>>>()?;
            y = y.f_index_select(a as i64, &Tensor::from_slice(&index).f_to_device(x.device())?)?;
        }
        Ok(y)
    }
}

impl Operator for Movement {
    fn kind(&self) -> &'static str {
        match self {
            Self::Concat { .. } => "Concat",
            Self::DepthToSpace { .. } => "DepthToSpace",
            Self::SpaceToDepth { .. } => "SpaceToDepth",
            Self::Expand => "Expand",
            Self::Pad { .. } => "Pad",
            Self::Split { .. } => "Split",
            Self::Tile => "Tile",
            Self::Transpose { .. } => "Transpose",
            Self::Trilu { .. } => "Trilu",
        }
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        Ok(vec![match self {
            Self::Concat { axis } => {
                let parts: Vec<&Tensor> = inputs.present().collect();
                let Some(first) = parts.first() else { invalid!("there is nothing to concatenate") };
                Tensor::f_cat(&parts, wrap_axis(*axis, first.dim())?)?
            }
            Self::DepthToSpace { block: b, column_first } => {
                let x = inputs.get(0)?;
                let (n, c, h, w) = x.size4()?;
                let y = if *column_first {
                    x.f_reshape([n, c / (b * b), *b, *b, h, w])?.f_permute([0, 1, 4, 2, 5, 3])?
                } else {
                    x.f_reshape([n, *b, *b, c / (b * b), h, w])?.f_permute([0, 3, 4, 1, 5, 2])?
                };
                y.f_reshape([n, c / (b * b), h * b, w * b])?
            }
            Self::SpaceToDepth { block: b } => {
                let x = inputs.get(0)?;
                let (n, c, h, w) = x.size4()?;
                let y = x.f_reshape([n, c, h / b, *b, w / b, *b])?.f_permute([0, 3, 5, 1, 2, 4])?;
                y.f_reshape([n, c * b * b, h / b, w / b])?
            }
            Self::Expand => {
                let x = inputs.get(0)?;
                let Some(shape) = inputs.ints(1)? else { invalid!("the shape is missing") };
                // Both sides may broadcast.
                let rank = shape.len().max(x.dim());
                let mut target = vec![1i64; rank];
                target[rank - shape.len()..].copy_from_slice(&shape);
                for (i, &n) in x.size().iter().enumerate() {
                    let at = rank - x.dim() + i;
                    if target[at] == 1 {
                        target[at] = n;
                    }
                }
                x.f_expand(target, false)?
            }
            Self::Pad { mode, pads } => self.pad(inputs, mode, pads)?,
            Self::Split { axis, sizes, count } => {
                let x = inputs.get(0)?;
                let axis = wrap_axis(*axis, x.dim())?;
                let n = x.size()[axis as usize];
                let sizes = match (inputs.ints(1)?.or_else(|| sizes.clone()), count) {
                    (Some(sizes), _) => sizes,
                    (None, Some(count)) if *count > 0 && *count <= n.max(1) => {
                        let chunk = (n + count - 1) / count;
                        (0..*count).map(|i| chunk.min(n - i * chunk).max(0)).collect()
                    }
                    (None, Some(count)) => invalid!("an axis of {n} can't be split into {count} parts"),
                    (None, None) => invalid!("neither split sizes nor their number is given"),
                };
                return Ok(x.f_split_with_sizes(sizes, axis)?);
            }
            Self::Tile => {
                let Some(repeats) = inputs.ints(1)? else { invalid!("the repeats are missing") };
                inputs.get(0)?.f_repeat(repeats)?
            }
            Self::Transpose { order } => {
                let x = inputs.get(0)?;
                let order = order.clone().unwrap_or_else(|| (0..x.dim() as i64).rev().collect());
                x.f_permute(order)?
            }
            Self::Trilu { upper } => {
                let x = inputs.get(0)?;
                let k = inputs.opt(1).map(to_i64s).transpose()?.and_then(|k| k.first().copied()).unwrap_or(0);
                if *upper { x.f_triu(k)? } else { x.f_tril(k)? }
            }
        }])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        let size = inputs.get(0)?.size();
        Ok(match self {
            Self::Expand => inputs.ints(1)?.map(|mut shape| {
                let skip = shape.len().saturating_sub(size.len());
                shape.iter_mut().skip(skip).zip(&size).for_each(|(n, have)| *n = (*n).max(*have));
                shape
            }),
            Self::Tile => {
                let repeats = inputs.ints(1)?.unwrap_or_default();
                let each = size.iter().zip(&repeats).map(|(n, times)| n.saturating_mul(*times));
                Some(each.collect())
            }
            Self::Pad { pads, .. } => {
                let pads = inputs.ints(1)?.or_else(|| pads.clone()).unwrap_or_default();
                // However the axes are named: no axis grows by more than all pads together.
                let more = pads.iter().fold(0i64, |sum, p| sum.saturating_add((*p).max(0)));
                let named = inputs.opt(3).is_some();
                let rank = size.len();
                let grown = size.iter().enumerate().map(|(a, n)| match named {
                    true => *n,
                    false => n
                        .saturating_add(pads.get(a).copied().unwrap_or(0).max(0))
                        .saturating_add(pads.get(a + rank).copied().unwrap_or(0).max(0)),
                });
                let mut shape: Vec<i64> = grown.collect();
                if let (true, Some(longest)) = (named, shape.iter_mut().max()) {
                    *longest = longest.saturating_add(more);
                }
                Some(shape)
            }
            _ => None,
        })
    }

    fn cost(&self, _shapes: &IoShapes) -> Cost {
        Cost::default()
    }

    fn axes(&self, links: &mut AxisLinks) {
        let (x, y) = (Slot::In(0), Slot::Out(0));
        let rank = links.shape(x).len();
        let io = links.shapes;
        // An absent input or an unused output has no shape to speak of.
        let odd = match self {
            Self::Concat { .. } => io.inputs.iter().any(|s| s.as_ref().is_none_or(|s| s.len() != rank)),
            Self::Split { .. } => io.outputs.iter().any(|s| s.len() != rank),
            _ => false,
        };
        if odd {
            return links.fix_all();
        }
        match self {
            Self::Concat { axis } => {
                let Ok(axis) = wrap_axis(*axis, rank) else { return };
                let mut start = 0;
                for i in 0..links.shapes.inputs.len() {
                    for a in 0..rank {
                        if a == axis as usize {
                            links.offset((Slot::In(i), a), (y, a), start);
                            start += links.shape(Slot::In(i))[a] as usize;
                        } else {
                            links.same((Slot::In(i), a), (y, a));
                        }
                    }
                }
            }
            Self::Split { axis, .. } => {
                let Ok(axis) = wrap_axis(*axis, rank) else { return };
                let mut start = 0;
                for o in 0..links.shapes.outputs.len() {
                    for a in 0..rank {
                        if a == axis as usize {
                            links.offset((Slot::Out(o), a), (x, a), start);
                            start += links.shape(Slot::Out(o))[a] as usize;
                        } else {
                            links.same((x, a), (Slot::Out(o), a));
                        }
                    }
                }
            }
            Self::Transpose { order } => {
                let order = order.clone().unwrap_or_else(|| (0..rank as i64).rev().collect());
                order.iter().enumerate().for_each(|(o, &i)| links.same((x, i as usize), (y, o)));
            }
            Self::Pad { .. } => {
                for a in 0..rank {
                    if links.shape(x)[a] == links.shape(y)[a] {
                        links.same((x, a), (y, a));
                    } else {
                        links.fix((x, a));
                        links.fix((y, a));
                    }
                }
            }
            _ => links.fix_all(),
        }
    }

    fn adapt(&self, _attributes: &Attributes, _old: &IoShapes, new: &IoShapes) -> Adapted {
        match self {
            Self::Split { axis, .. } => {
                let rank = new.inputs[0].as_ref().map_or(0, Vec::len);
                let Ok(axis) = wrap_axis(*axis, rank) else { return Adapted::default() };
                let sizes = new.outputs.iter().map(|s| s[axis as usize]).collect();
                Adapted { attributes: Some(Attributes::new().int("axis", axis)), constants: vec![(1, sizes)] }
            }
            _ => Adapted::default(),
        }
    }

    fn quantization(&self) -> Quantization {
        match self {
            Self::Concat { .. } => Quantization::INTEGERS,
            // What they fill in may not be a value of the input's quantizer.
            Self::Pad { .. } | Self::Trilu { .. } => Quantization::FLOAT,
            _ => Quantization::MOVES,
        }
    }
}
