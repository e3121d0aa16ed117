//! Biases: what rounding the weights adds to them, and their own grids.

use sinter_model::{Grid, GridShape, Half, Layer, Levels, Model, OpResult, to_f32s};
use sinter_train::StageError;
use tch::{Kind, Tensor};

/// Takes from a layer's bias what rounding its weight adds to the mean of each output channel (Nagel et al., 2019, section 4.2): the
/// change of the weight times the mean input. `before` is the weight as it was, `mean` the mean of each input channel. Without effect
/// where there is no bias of the layer's own.
pub(crate) fn correct(model: &mut Model, layer: &Layer, before: &Tensor, mean: &Tensor) -> Result<(), StageError> {
    let Some(bias) = layer.bias.clone().filter(|b| stands_alone(model, layer, b)) else { return Ok(()) };
    let after = model.weight(&layer.weight)?.effective().map_err(StageError::weight(&layer.weight))?.f_detach()?;
    let shift = shift(model, layer, &after.f_sub(before)?, mean).map_err(StageError::weight(&layer.weight))?;
    let Some(shift) = shift else { return Ok(()) };
    let weight = model.weight_mut(&bias)?;
    let value = weight.effective().map_err(StageError::weight(&bias))?.f_detach()?;
    if value.numel() != shift.numel() {
        return Ok(());
    }
    let shifted = value.f_sub(&shift.f_reshape(value.size())?.f_to_kind(Kind::Float)?)?;
    weight.set_latent(shifted).map_err(StageError::weight(&bias))
}

/// The mean change of each output channel; `None` where weight and input do not fit a convolution or a matrix product.
fn shift(model: &Model, layer: &Layer, change: &Tensor, mean: &Tensor) -> OpResult<Option<Tensor>> {
    let node = &model.graph.nodes[layer.node];
    let change = change.f_to_kind(Kind::Double)?;
    let (channels, size) = (mean.numel() as i64, change.size());
    match node.kind() {
        "Conv" if size.len() >= 2 && size[1] > 0 && channels % size[1] == 0 && size[0] % (channels / size[1]).max(1) == 0 => {
            let groups = (channels / size[1]).max(1);
            let each = change.f_flatten(2, -1).or_else(|_| change.f_unsqueeze(-1))?.f_sum_dim_intlist(-1, false, Kind::Double)?;
            let product = each.f_view([groups, size[0] / groups, size[1]])?.f_matmul(&mean.f_view([groups, size[1], 1])?)?;
            Ok(Some(product.f_reshape([-1])?))
        }
        "Gemm" | "MatMul" if size.len() == 2 && size[layer.slot.in_axis] == channels => {
            Ok(Some(layer.slot.matrix(&change)?.f_matmul(mean)?))
        }
        _ => Ok(None),
    }
}

/// Whether the bias is added as it is, and by this layer only.
fn stands_alone(model: &Model, layer: &Layer, bias: &str) -> bool {
    let readers = model.graph.consumers();
    let once = |name: &str| readers.get(name).is_some_and(|r| r.len() == 1);
    let attributes = &model.graph.nodes[layer.node].attributes;
    let factors = ["alpha", "beta"].iter().all(|f| matches!(attributes.get_float(f, 1.0), Ok(v) if v == 1.0));
    factors && once(&layer.weight) && once(bias)
}

/// Biases go to 32 bits at the product of the scales of input and weight, as integer kernels add them. Where another reader or a factor
/// would want another scale they stay float.
pub(crate) fn quantize(model: &mut Model) -> Result<(), StageError> {
    for layer in model.layers() {
        let node = &model.graph.nodes[layer.node];
        let Some(bias) = layer.bias.clone().filter(|b| stands_alone(model, &layer, b)) else { continue };
        let Some(input) = model.activations.get(&node.inputs[0]) else { continue };
        let Some(grid) = model.weight(&layer.weight)?.grid() else { continue };
        if matches!(grid.shape(), GridShape::Group { .. }) {
            continue;
        }
        let input_scale = input.scales()?[0];
        let weight_scales = grid.scales()?;
        // Sixteen bits say more of a bias than eight-bit weights leave to tell.
        model.weight_mut(&bias)?.halve(Half::Float16);
        let value = model.weight(&bias)?.effective().map_err(StageError::weight(&bias))?.f_detach()?;
        let n = value.numel();
        if value.dim() != 1 || (weight_scales.len() > 1 && weight_scales.len() != n) {
            continue;
        }
        let scales: Vec<f32> = (0..n).map(|i| input_scale * weight_scales[i % weight_scales.len()]).collect();
        // Beyond 24 bits float32 can't tell the integers apart (a dead channel has a tiny scale): then too it stays float.
        let exact = to_f32s(&value)?.iter().zip(&scales).all(|(b, s)| (b / s).abs() < 16_777_216.0);
        if !exact {
            continue;
        }
        let shape = if weight_scales.len() == 1 { GridShape::Tensor } else { GridShape::Channel(0) };
        let scales = if shape == GridShape::Tensor { scales[..1].to_vec() } else { scales };
        let grid = Grid::new(32, Levels::Symmetric, shape, &scales, &vec![0; scales.len()]).map_err(StageError::weight(&bias))?;
        model.weight_mut(&bias)?.quantize(grid).map_err(StageError::weight(&bias))?;
    }
    Ok(())
}
