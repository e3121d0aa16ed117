//! What stands behind detectors, and what warps images: boxes chosen from overlapping ones, values sampled at given places. They stay in float.

use std::sync::Arc;

use tch::Tensor;

use super::own;
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator};
use crate::tensor::to_f32s;

pub(super) const KINDS: &[&str] = &["AffineGrid", "GridSample", "NonMaxSuppression"];

#[derive(Debug)]
enum Detection {
    /// From matrices `[n, 2, 3]` or `[n, 3, 4]` to places.
    AffineGrid { align: bool },
    /// Values at places: interpolation and padding by libtorch's numbers.
    GridSample { mode: i64, padding: i64, align: bool },
    /// Boxes given by centre and size, or by two corners.
    NonMaxSuppression { centres: bool },
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    let align = attributes.get_flag("align_corners", false)?;
    Ok(Some(Arc::new(match kind {
        "AffineGrid" => Detection::AffineGrid { align },
        "GridSample" => {
            let mode = match attributes.get_str("mode", "linear")? {
                "linear" | "bilinear" => 0,
                "nearest" => 1,
                "cubic" | "bicubic" => 2,
                other => invalid!("mode `{other}` is not supported"),
            };
            let padding = match attributes.get_str("padding_mode", "zeros")? {
                "zeros" => 0,
                "border" => 1,
                "reflection" => 2,
                other => invalid!("padding_mode `{other}` is not supported"),
            };
            Detection::GridSample { mode, padding, align }
        }
        _ => Detection::NonMaxSuppression { centres: attributes.get_flag("center_point_box", false)? },
    })))
}

/// The first number of an optional input.
fn number(inputs: &Inputs, at: usize) -> OpResult<Option<f64>> {
    Ok(match inputs.opt(at) {
        Some(t) if t.numel() > 0 => Some(t.f_reshape([-1])?.f_double_value(&[0])?),
        _ => None,
    })
}

/// The corners `[top, left, bottom, right]` of a box.
fn corners(of: &[f32], centres: bool) -> [f32; 4] {
    let [a, b, c, d] = [of[0], of[1], of[2], of[3]];
    if centres {
        let (x, y, width, height) = (a, b, c, d);
        return [y - height / 2.0, x - width / 2.0, y + height / 2.0, x + width / 2.0];
    }
    [a.min(c), b.min(d), a.max(c), b.max(d)]
}

/// Intersection over union.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |of: &[f32; 4]| (of[2] - of[0]) * (of[3] - of[1]);
    let both = side(0, 2) * side(1, 3);
    let union = area(a) + area(b) - both;
    if union > 0.0 { both / union } else { 0.0 }
}

/// The boxes that stay, greedily from the best score on: `[boxes, 3]` of sample, class and box, int64 (Felzenszwalb et al., 2010).
fn suppress(inputs: &Inputs, centres: bool) -> OpResult<Tensor> {
    let (boxes, scores) = (inputs.get(0)?, inputs.get(1)?);
    let ([samples, count, 4], [same, classes, scored]) = (&boxes.size()[..], &scores.size()[..]) else {
        invalid!("boxes of shape {:?} and scores of shape {:?} do not go together", boxes.size(), scores.size());
    };
    if samples != same || count != scored {
        invalid!("boxes of shape {:?} and scores of shape {:?} do not go together", boxes.size(), scores.size());
    }
    let most = number(inputs, 2)?.unwrap_or(0.0).max(0.0) as usize;
    let (most_overlap, least_score) = (number(inputs, 3)?.unwrap_or(0.0) as f32, number(inputs, 4)?);
    let corner_values: Vec<[f32; 4]> = to_f32s(boxes)?.chunks_exact(4).map(|of| corners(of, centres)).collect();
    let values = to_f32s(scores)?;
    let count = *count as usize;
    let mut chosen: Vec<i64> = Vec::new();
    for row in 0..(*samples * *classes) as usize {
        let (sample, class) = (row / *classes as usize, row % *classes as usize);
        let (of, at) = (&values[row * count..(row + 1) * count], sample * count);
        let mut order: Vec<usize> = (0..count).filter(|&i| least_score.is_none_or(|least| f64::from(of[i]) > least)).collect();
        order.sort_by(|&a, &b| of[b].total_cmp(&of[a]));
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            if kept.len() >= most {
                break;
            }
            if kept.iter().all(|&k| overlap(&corner_values[at + i], &corner_values[at + k]) <= most_overlap) {
                kept.push(i);
                chosen.extend([sample as i64, class as i64, i as i64]);
            }
        }
    }
    Ok(Tensor::f_from_slice(&chosen)?.f_reshape([-1, 3])?)
}

impl Operator for Detection {
    fn kind(&self) -> &'static str {
        match self {
            Self::AffineGrid { .. } => "AffineGrid",
            Self::GridSample { .. } => "GridSample",
            Self::NonMaxSuppression { .. } => "NonMaxSuppression",
        }
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        Ok(vec![match self {
            Self::AffineGrid { align } => {
                let Some(size) = inputs.ints(1)? else { invalid!("the size is missing") };
                Tensor::f_affine_grid_generator(inputs.get(0)?, size, *align)?
            }
            Self::GridSample { mode, padding, align } => {
                let (x, grid) = (inputs.get(0)?, inputs.get(1)?);
                x.f_grid_sampler(&grid.f_to_kind(x.kind())?, *mode, *padding, *align)?
            }
            Self::NonMaxSuppression { centres } => suppress(inputs, *centres)?,
        }])
    }

    fn largest(&self, inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        Ok(match self {
            Self::AffineGrid { .. } => inputs.ints(1)?.map(|mut size| {
                size.push(3);
                size
            }),
            Self::GridSample { .. } => {
                let (x, grid) = (inputs.get(0)?.size(), inputs.get(1)?.size());
                let places = grid.split_last().map_or(&grid[..], |(_, rest)| rest);
                Some([places, x.get(1..2).unwrap_or_default()].concat())
            }
            Self::NonMaxSuppression { .. } => None,
        })
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: shapes.output_len(0).saturating_mul(8) }
    }

    fn gives_reals(&self) -> bool {
        !matches!(self, Self::NonMaxSuppression { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_overlap_give_way() {
        let of = |values: &[f32]| Tensor::from_slice(values);
        let boxes = of(&[0.0, 0.0, 1.0, 1.0, 0.0, 0.1, 1.0, 1.1, 0.0, 10.0, 1.0, 11.0]).reshape([1, 3, 4]);
        let scores = of(&[0.9, 0.75, 0.6]).reshape([1, 1, 3]);
        let run = |most: i64, overlap: f32, least: f32| {
            let inputs =
                [boxes.shallow_clone(), scores.shallow_clone(), Tensor::from(most), Tensor::from(overlap), Tensor::from(least)];
            let inputs = inputs.map(Some);
            crate::tensor::to_i64s(&suppress(&Inputs(&inputs), false).unwrap()).unwrap()
        };
        assert_eq!(run(3, 0.5, 0.0), [0, 0, 0, 0, 0, 2]);
        assert_eq!(run(3, 0.9, 0.0), [0, 0, 0, 0, 0, 1, 0, 0, 2]);
        assert_eq!(run(1, 0.5, 0.0), [0, 0, 0]);
        assert_eq!(run(3, 0.5, 0.7), [0, 0, 0]);
        assert_eq!(run(0, 0.5, 0.0), [0i64; 0]);
    }
}
