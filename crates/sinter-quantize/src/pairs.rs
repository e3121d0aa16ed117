//! Pairs of products that saturate. x86 without VNNI multiplies unsigned with signed bytes and adds two neighbours in 16 bits (VPMADDUBSW): a sum
//! beyond 32767 stays there, and the result is wrong without a word.

use sinter_model::{Layer, Levels, Model, OpResult, to_i64s};
use tch::Tensor;

/// The most that 16 bits hold.
const MOST: i64 = i16::MAX as i64;

/// Layers whose pairs can leave 16 bits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Saturating {
    /// How many layers multiply unsigned with signed bytes.
    pub of: usize,
    /// How many of them can leave it.
    pub count: usize,
    /// The one that goes furthest, and how far.
    pub worst: Option<(String, i64)>,
}

/// The layers whose pairs can leave 16 bits for some input.
pub(crate) fn saturating(model: &Model) -> OpResult<Saturating> {
    let mut found = Saturating::default();
    for layer in model.layers() {
        let Some(reach) = reach(model, &layer)? else { continue };
        found.of += 1;
        if reach <= MOST {
            continue;
        }
        found.count += 1;
        if found.worst.as_ref().is_none_or(|(_, most)| reach > *most) {
            found.worst = Some((layer.name, reach));
        }
    }
    Ok(found)
}

/// The largest magnitude of a pair of products; `None` for a layer that does not multiply unsigned with signed bytes.
fn reach(model: &Model, layer: &Layer) -> OpResult<Option<i64>> {
    let input = model.integers_read(&model.graph.nodes[layer.node]);
    let (Some(input), Some(weight)) = (input, model.weights.get(&layer.weight)) else { return Ok(None) };
    let Some(quantizer) = weight.quantizer().filter(|q| q.levels() != Levels::Unsigned && q.bits() <= 8) else { return Ok(None) };
    if input.levels() != Levels::Unsigned {
        return Ok(None);
    }
    let top = input.range().1;
    let rows = layer.slot.matrix(&quantizer.quantize(&weight.effective()?.f_detach()?)?)?;
    let (count, columns) = (rows.size()[0], rows.size()[1] as usize);
    if count == 0 || columns == 0 {
        return Ok(None);
    }
    // Inputs are not below zero: weights of either sign alone go furthest. Which two are neighbours is up to the kernel's packing, so of each row
    // the two largest count.
    let two_largest = |signed: &Tensor| -> OpResult<i64> {
        let (values, _) = signed.f_clamp_min(0)?.f_topk(2.min(columns as i64), 1, true, false)?;
        Ok(to_i64s(&values.f_sum_dim_intlist([1i64].as_slice(), false, tch::Kind::Int64)?)?.into_iter().max().unwrap_or(0))
    };
    Ok(Some(top * two_largest(&rows)?.max(two_largest(&rows.f_neg()?)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::zoo::Builder;
    use sinter_model::{QuantParams, Quantizer};

    fn model(weights: &[f32], levels: Levels) -> Model {
        let mut builder = Builder::new("m", &[4], 1);
        let y = builder.dense("fc", "input", 1);
        let mut model = builder.finish(&y).unwrap();
        let layer = model.layers().remove(0);
        let size = model.weights[&layer.weight].size();
        let weight = model.weight_mut(&layer.weight).unwrap();
        weight.set_latent(Tensor::from_slice(weights).reshape(size)).unwrap();
        let params = QuantParams::of_tensor(8, Levels::Symmetric, 1.0, 0).unwrap();
        weight.quantize(Quantizer::new(&params).unwrap()).unwrap();
        let params = QuantParams::of_tensor(8, levels, 1.0, 0).unwrap();
        model.activations.insert("input".into(), Quantizer::new(&params).unwrap());
        model
    }

    #[test]
    fn pairs_of_large_weights_leave_sixteen_bits() {
        // 255 x (127 + 2) = 32895, 255 x (126 + 2) = 32640.
        let found = saturating(&model(&[127.0, 1.0, 2.0, -128.0], Levels::Unsigned)).unwrap();
        assert_eq!((found.of, found.count, found.worst), (1, 1, Some(("fc".to_string(), 32_895))));
        assert_eq!(saturating(&model(&[126.0, 1.0, 2.0, -100.0], Levels::Unsigned)).unwrap().count, 0);
        assert_eq!(saturating(&model(&[127.0, 127.0, 127.0, 127.0], Levels::Signed)).unwrap(), Saturating::default());
    }
}
