//! Where values can lie for every input of a box: intervals, refined by affine forms that share the symbols of the inputs (Stolfi and de Figueiredo,
//! 1997; zonotopes of networks as in Singh et al., 2018). In float64, and widened for what float32 rounds.

use std::collections::BTreeMap;

use sinter_model::{Inputs, Mode, Model, Node, OpError, OpResult, ParamsOf, Quantizer};
use tch::{Kind, Tensor};

use crate::Range;
use crate::error::CertifyError;
use crate::inputs::input_zone;
use crate::zone::{Affine, Zone};

/// What float32 may be off, as a share of a value.
const SLACK: f64 = 1e-5;
/// A kernel's result is at most so many steps from the sum that it rounds: two roundings, the second after a shift.
pub(crate) const ROUNDS: f64 = 0.76;

/// Stored tensors in float64; integers as they are.
pub(crate) fn stored(model: &Model, name: &str) -> OpResult<Option<Tensor>> {
    let Some(weight) = model.weights.get(name) else { return Ok(None) };
    let value = weight.effective()?.f_detach()?;
    Ok(Some(if value.is_floating_point() { value.f_to_kind(Kind::Double)? } else { value }))
}

/// What an operator does to what it reads first, all else stored.
pub(crate) fn run(node: &Node, model: &Model, x: &Tensor) -> OpResult<Tensor> {
    let mut inputs = vec![Some(x.shallow_clone())];
    for name in &node.inputs[1..] {
        inputs.push(if name.is_empty() { None } else { stored(model, name)? });
    }
    forward(node, &inputs)
}

pub(crate) fn forward(node: &Node, inputs: &[Option<Tensor>]) -> OpResult<Tensor> {
    let outputs = tch::no_grad(|| node.compute(&Inputs(inputs), Mode::Predict))?;
    outputs.into_iter().next().ok_or_else(|| OpError::Invalid("no result".into()))
}

/// How an operator acts on one value, all else stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Acts {
    /// A sum with a stored weight.
    Product,
    /// Each element times a stored number of either sign, and another added.
    Scale,
    /// Linear, and no coefficient is below zero.
    Linear,
    /// Never falls where its input rises, and never rises faster.
    Monotone,
    /// Each result is between 0 and 1 whatever comes in.
    Unit,
    /// The sum or the difference of two.
    Sum(f64),
    /// Their product.
    Times,
    /// Several side by side.
    Concat,
    /// Something else.
    Unknown,
}

pub(crate) fn acts(node: &Node, model: &Model) -> Acts {
    let others_stored = node.inputs.iter().skip(1).all(|n| n.is_empty() || model.weights.contains_key(n));
    let non_negative =
        |name: &str, default: f64| node.attributes.get_float(name, default).is_ok_and(|v| (0.0..=1.0).contains(&v));
    match node.kind() {
        "Conv" | "Gemm" | "MatMul" if others_stored && node.op.is_product() => Acts::Product,
        "AveragePool" | "GlobalAveragePool" | "ReduceMean" | "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze"
        | "Identity" | "Slice" | "Dropout" | "Pad"
            if others_stored =>
        {
            Acts::Linear
        }
        "BatchNormalization" if others_stored => Acts::Scale,
        "Relu" | "Clip" | "Sigmoid" | "Tanh" | "MaxPool" | "GlobalMaxPool" if others_stored => Acts::Monotone,
        "HardSigmoid" if non_negative("alpha", 0.2) => Acts::Monotone,
        "LeakyRelu" if non_negative("alpha", 0.01) => Acts::Monotone,
        "Softmax" => Acts::Unit,
        "Add" => Acts::Sum(1.0),
        "Sub" => Acts::Sum(-1.0),
        "Mul" => Acts::Times,
        "Concat" => Acts::Concat,
        _ => Acts::Unknown,
    }
}

/// A product with the magnitudes of its weight and no bias: what it makes of a radius.
pub(crate) fn spread(node: &Node, model: &Model, radius: &Tensor) -> OpResult<Tensor> {
    let weight = stored(model, &node.inputs[1])?.ok_or_else(|| OpError::Invalid("its weight is not stored".into()))?.f_abs()?;
    let mut inputs = vec![Some(radius.shallow_clone()), Some(weight)];
    if node.inputs.len() > 2 {
        inputs.push(None);
    }
    // A factor of the sum may be below zero.
    Ok(forward(node, &inputs)?.f_abs()?)
}

/// A linear operator without what it adds.
pub(crate) fn slope(node: &Node, model: &Model, x: &Tensor) -> OpResult<Tensor> {
    let nothing = run(node, model, &x.f_zeros_like()?)?;
    // What is padded with infinity adds nothing either.
    Ok(run(node, model, x)?.f_sub(&nothing)?.f_nan_to_num(0.0, f64::INFINITY, f64::NEG_INFINITY)?)
}

/// Where a node's first result can lie; `None` where nothing is known.
pub(crate) fn through(node: &Node, model: &Model, zones: &BTreeMap<String, Zone>) -> OpResult<Option<Zone>> {
    let zone = |i: usize| -> OpResult<Option<Zone>> {
        let name = &node.inputs[i];
        if let Some(zone) = zones.get(name) {
            return Ok(Some(Zone {
                low: zone.low.shallow_clone(),
                high: zone.high.shallow_clone(),
                affine: zone.affine.as_ref().map(Affine::copy),
            }));
        }
        let Some(value) = stored(model, name)? else { return Ok(None) };
        Ok(Some(Zone::interval(value.shallow_clone(), value)))
    };
    let acts = acts(node, model);
    if matches!(acts, Acts::Sum(_) | Acts::Times) {
        let (Some(a), Some(b)) = (zone(0)?, zone(1)?) else { return Ok(None) };
        return two(acts, &a, &b).map(Some);
    }
    if acts == Acts::Concat {
        let parts = (0..node.inputs.len()).map(zone).collect::<OpResult<Option<Vec<_>>>>()?;
        let Some(parts) = parts else { return Ok(None) };
        let all = |pick: &dyn Fn(&Zone) -> Tensor| forward(node, &parts.iter().map(|z| Some(pick(z))).collect::<Vec<_>>());
        return Ok(Some(Zone::interval(all(&|z| z.low.shallow_clone())?, all(&|z| z.high.shallow_clone())?)));
    }
    let Some(x) = node.inputs.first().and_then(|name| zones.get(name)) else { return Ok(None) };
    let (middle, radius) = x.middle()?;
    Ok(match acts {
        Acts::Product | Acts::Scale | Acts::Linear => {
            let reach = |r: &Tensor| match acts {
                Acts::Product => spread(node, model, r),
                Acts::Scale => Ok(slope(node, model, r)?.f_abs()?),
                _ => slope(node, model, r),
            };
            let (centre, around) = (run(node, model, &middle)?, reach(&radius)?);
            let along = |form: &Affine| -> OpResult<Option<Affine>> {
                let symbols = form.generators.size()[0];
                let Ok(generators) = slope(node, model, &form.generators) else { return Ok(None) };
                let form = Affine { centre: run(node, model, &form.centre)?, generators, radius: reach(&form.radius)? };
                Ok(form.apart(symbols))
            };
            let affine = x.affine.as_ref().map(along).transpose()?.flatten();
            Some(Zone::refined(centre.f_sub(&around)?, centre.f_add(&around)?, affine)?)
        }
        Acts::Monotone => {
            let (low, high) = (run(node, model, &x.low)?, run(node, model, &x.high)?);
            let affine = match &x.affine {
                Some(form) if node.kind() == "Relu" => Some(relu(form, &x.low, &x.high)?),
                _ => None,
            };
            Some(Zone::refined(low, high, affine)?)
        }
        Acts::Unit => {
            let shape = run(node, model, &x.low)?;
            Some(Zone::interval(shape.f_zeros_like()?, shape.f_ones_like()?))
        }
        _ => None,
    })
}

/// A ReLU of an affine form: between two lines where its sign is open (Singh et al., 2018).
fn relu(form: &Affine, low: &Tensor, high: &Tensor) -> OpResult<Affine> {
    let (dead, alive) = (high.f_le(0.0)?, low.f_ge(0.0)?);
    let open = high.f_div(&high.f_sub(low)?.f_clamp_min(1e-300)?)?;
    let slope = open.f_where_self(&dead.f_logical_or(&alive)?.f_logical_not()?, &alive.f_to_kind(Kind::Double)?)?;
    let offset =
        slope.f_mul(low)?.f_mul_scalar(-0.5)?.f_clamp_min(0.0)?.f_mul(&alive.f_logical_not()?.f_to_kind(Kind::Double)?)?;
    Ok(Affine {
        centre: form.centre.f_mul(&slope)?.f_add(&offset)?,
        generators: form.generators.f_mul(&slope)?,
        radius: form.radius.f_mul(&slope)?.f_add(&offset)?,
    })
}

fn two(acts: Acts, a: &Zone, b: &Zone) -> OpResult<Zone> {
    let Acts::Sum(sign) = acts else {
        let ends = [a.low.f_mul(&b.low)?, a.low.f_mul(&b.high)?, a.high.f_mul(&b.low)?, a.high.f_mul(&b.high)?];
        let low = ends[0].f_minimum(&ends[1])?.f_minimum(&ends[2])?.f_minimum(&ends[3])?;
        let high = ends[0].f_maximum(&ends[1])?.f_maximum(&ends[2])?.f_maximum(&ends[3])?;
        return Ok(Zone::interval(low, high));
    };
    let (b_low, b_high) = if sign > 0.0 { (&b.low, &b.high) } else { (&b.high, &b.low) };
    let (low, high) = (a.low.f_add(&b_low.f_mul_scalar(sign)?)?, a.high.f_add(&b_high.f_mul_scalar(sign)?)?);
    let affine = match (&a.affine, &b.affine) {
        (Some(a), Some(b)) => a.plus(b, sign)?,
        _ => None,
    };
    Zone::refined(low, high, affine)
}

/// Whether a value only moves what another quantizer has rounded already.
pub(crate) fn moves(model: &Model, node: &Node, quantizer: &Quantizer) -> bool {
    let same = |other: &Quantizer| matches!((other.params(), quantizer.params()), (Ok(a), Ok(b)) if a == b);
    // An average shares its input's parameters in TensorFlow Lite, and rounds again.
    let keeps = node.op.quantization().params == ParamsOf::Input || matches!(node.kind(), "MaxPool" | "GlobalMaxPool");
    keeps && node.inputs.first().and_then(|name| model.activations.get(name)).is_some_and(same)
}

/// The zone of a value behind its quantizer: rounded, and within what it holds.
pub(crate) fn quantized(zone: &Zone, quantizer: &Quantizer, rounds: f64) -> OpResult<Zone> {
    let params = quantizer.params()?;
    let ((least, most), step) = (params.ends(), f64::from(params.scale(0)));
    let end = |t: &Tensor, by: f64| -> OpResult<Tensor> {
        Ok(t.f_add_scalar(by * rounds * step)?.f_clamp(f64::from(least), f64::from(most))?)
    };
    let (low, high) = (end(&zone.low, -1.0)?, end(&zone.high, 1.0)?);
    let affine = match &zone.affine {
        Some(form) => {
            // What lies beyond the ends comes back to them.
            let over = zone.high.f_sub_scalar(f64::from(most))?.f_clamp_min(0.0)?.f_mul_scalar(0.5)?;
            let under = zone.low.f_neg()?.f_add_scalar(f64::from(least))?.f_clamp_min(0.0)?.f_mul_scalar(0.5)?;
            Some(Affine {
                centre: form.centre.f_sub(&over)?.f_add(&under)?,
                generators: form.generators.shallow_clone(),
                radius: form.radius.f_add(&over)?.f_add(&under)?.f_add_scalar(rounds * step)?,
            })
        }
        None => None,
    };
    Zone::refined(low, high, affine)
}

/// Where every quantized value of the model can lie.
pub(crate) fn ranges(model: &Model, inputs: (f64, f64), unknown: &mut Vec<String>) -> Result<Vec<Range>, CertifyError> {
    let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
    let mut found = Vec::new();
    let mut put = |name: &str, zone: Zone, moves: bool, zones: &mut BTreeMap<String, Zone>| -> OpResult<()> {
        let zone = match model.activations.get(name) {
            Some(_) if moves => zone,
            Some(quantizer) => {
                let end = |t: Tensor| t.f_double_value(&[]);
                let slack = SLACK * zone.magnitude()?.f_max()?.f_double_value(&[])?;
                let reaches = (end(zone.low.f_min()?)? - slack, end(zone.high.f_max()?)? + slack);
                let params = quantizer.params()?;
                let (least, most) = params.ends();
                let half = 0.5 * f64::from(params.scale(0));
                let holds = (f64::from(least), f64::from(most));
                // What is no number may be anything.
                let saturates = !(reaches.0 >= holds.0 - half && reaches.1 <= holds.1 + half);
                found.push(Range { value: name.to_string(), reaches, holds, saturates });
                quantized(&zone, quantizer, ROUNDS)?
            }
            None => zone,
        };
        zones.insert(name.to_string(), zone);
        Ok(())
    };
    for info in &model.graph.inputs {
        if model.graph.state.contains_key(&info.name) {
            unknown.push(format!("the range of `{}`: a state may become anything", info.name));
            continue;
        }
        let mut zone = input_zone(&info.concrete(1), inputs)?;
        // Symbols of two inputs would be taken for the same.
        zone.affine = zone.affine.filter(|_| model.graph.inputs.len() == 1);
        put(&info.name, zone, false, &mut zones)?;
    }
    for node in &model.graph.nodes {
        let Some(output) = node.outputs.first() else { continue };
        match through(node, model, &zones)? {
            Some(zone) => {
                let moved = model.activations.get(output).is_some_and(|q| moves(model, node, q));
                put(output, zone, moved, &mut zones)?;
            }
            None if model.activations.contains_key(output) => {
                unknown.push(format!("the range of `{output}`: {} `{}` is not bounded", node.kind(), node.name));
            }
            None => {}
        }
    }
    Ok(found)
}
