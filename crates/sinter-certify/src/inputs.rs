//! The box that every input lies in.

use sinter_model::{Model, OpResult, Quantizer};
use tch::{Device, Kind, Tensor};

use crate::error::CertifyError;
use crate::zone::{Affine, Zone};

/// Inputs of more elements have no symbols: what is left are intervals.
const SYMBOLS: i64 = 1024;

/// What the quantizers of the model's inputs hold, or of what is made of an input at once. Errors where an input has none.
pub(crate) fn of_inputs(model: &Model) -> Result<(f64, f64), CertifyError> {
    let mut all = (f64::INFINITY, f64::NEG_INFINITY);
    for input in &model.graph.inputs {
        let own: Vec<&Quantizer> = model.activations.get(&input.name).into_iter().collect();
        let quantizers = if own.is_empty() { of_copies(model, &input.name) } else { own };
        if quantizers.is_empty() {
            return Err(CertifyError::Nothing(
                "an input is not quantized: say in which range its elements lie (--inputs LOW HIGH)".into(),
            ));
        }
        for quantizer in quantizers {
            let (low, high) = quantizer.params()?.ends();
            all = (all.0.min(low.into()), all.1.max(high.into()));
        }
    }
    Ok(all)
}

/// The quantizers of a value's copies, where nothing else reads it.
fn of_copies<'a>(model: &'a Model, value: &str) -> Vec<&'a Quantizer> {
    let readers: Vec<_> = model.graph.nodes.iter().filter(|n| n.inputs.iter().any(|i| i == value)).collect();
    let of = |node: &&sinter_model::Node| match node.kind() {
        "Identity" => node.outputs.first().and_then(|output| model.activations.get(output)),
        _ => None,
    };
    readers.iter().map(of).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The box of an input.
pub(crate) fn input_zone(shape: &[i64], (low, high): (f64, f64)) -> OpResult<Zone> {
    let options = (Kind::Double, Device::Cpu);
    let full = |v: f64| Tensor::f_full(shape, v, options);
    let count: i64 = shape.iter().product();
    let affine = (count <= SYMBOLS && shape.first() == Some(&1)).then(|| -> OpResult<Affine> {
        let generators = Tensor::f_eye(count, options)?.f_mul_scalar(0.5 * (high - low))?;
        let shape = [&[count], &shape[1..]].concat();
        Ok(Affine { centre: full(0.5 * (low + high))?, generators: generators.f_reshape(shape)?, radius: full(0.0)? })
    });
    Ok(Zone { low: full(low)?, high: full(high)?, affine: affine.transpose()? })
}
