//! How far the integer model can be from its float twin: the same graph before anything was rounded. Errors are followed as affine forms of the inputs'
//! symbols and of how the inputs were rounded, beside the zones of the values themselves.

use std::collections::BTreeMap;

use sinter_model::{Model, Node, OpResult};
use tch::{Kind, Tensor};

use crate::Distance;
use crate::bounds::{Acts, ROUNDS, acts, forward, moves, quantized, run, slope, spread, stored, through};
use crate::error::CertifyError;
use crate::inputs::input_zone;
use crate::reference::Pair;
use crate::search::{Found, search};
use crate::zone::{Affine, Zone};

/// What float32 may add, as a share of the values.
const SLACK: f64 = 1e-5;

/// Multiply-accumulates of a model for which inputs are searched and errors followed; larger ones take minutes.
const SMALL: u64 = 4_000_000;

/// The errors of a value: float less integer. Symbols: those of the inputs, then as many for how each was rounded.
struct Errors(Affine);

impl Errors {
    /// The largest magnitude of each element.
    fn most(&self) -> OpResult<Tensor> {
        Ok(self.0.centre.f_abs()?.f_add(&self.0.reach()?)?)
    }

    /// A box around zero.
    fn within(most: &Tensor, symbols: i64) -> OpResult<Self> {
        let shape: Vec<i64> = [symbols].into_iter().chain(most.size().into_iter().skip(1)).collect();
        let generators = Tensor::f_zeros(shape, (Kind::Double, most.device()))?;
        Ok(Self(Affine { centre: most.f_zeros_like()?, generators, radius: most.shallow_clone() }))
    }

    /// Known to lie between `low` and `high` as well: that box is taken for each element where it is the narrower.
    fn inside(self, low: &Tensor, high: &Tensor) -> OpResult<Self> {
        let (centre, radius) = (low.f_add(high)?.f_mul_scalar(0.5)?, high.f_sub(low)?.f_mul_scalar(0.5)?);
        let narrower = radius.f_lt_tensor(&self.0.reach()?)?;
        Ok(Self(Affine {
            centre: centre.f_where_self(&narrower, &self.0.centre)?,
            generators: self.0.generators.f_zeros_like()?.f_where_self(&narrower, &self.0.generators)?,
            radius: radius.f_where_self(&narrower, &self.0.radius)?,
        }))
    }

    /// Where both sides can lie: the real one in `zone`, the other less the error.
    fn behind(&self, zone: &Zone) -> OpResult<(Tensor, Tensor)> {
        let reach = self.0.reach()?;
        let low = zone.low.f_minimum(&zone.low.f_sub(&self.0.centre)?.f_sub(&reach)?)?;
        let high = zone.high.f_maximum(&zone.high.f_sub(&self.0.centre)?.f_add(&reach)?)?;
        Ok((low, high))
    }

    /// Times a slope between 0 and 1 that is known where `sure` has one, and open elsewhere.
    fn sloped(&self, least: &Tensor, greatest: &Tensor) -> OpResult<Self> {
        let (middle, half) = (least.f_add(greatest)?.f_mul_scalar(0.5)?, greatest.f_sub(least)?.f_mul_scalar(0.5)?);
        Ok(Self(Affine {
            centre: self.0.centre.f_mul(&middle)?,
            generators: self.0.generators.f_mul(&middle)?,
            radius: self.0.radius.f_mul(&middle)?.f_add(&half.f_mul(&self.most()?)?)?,
        }))
    }
}

/// Bounds each output, and looks for inputs that come near.
pub(crate) fn of_outputs(pair: &Pair, inputs: (f64, f64), unknown: &mut Vec<String>) -> Result<Vec<Distance>, CertifyError> {
    let model = &pair.model;
    if sinter_exec::macs(model)? > SMALL {
        unknown.push(format!("the distance from {}: the model is too large for that", pair.from));
        return Ok(vec![]);
    }
    let mut found = search(model, &pair.runnable()?, inputs)?;
    if found.is_empty() {
        unknown.push("how far outputs are somewhere: inputs are tried only for one float input whose batch is free".into());
        found = vec![Found { apart: 0.0, size: 0.0 }; model.graph.outputs.len()];
    }
    let bounds = bounds(pair, inputs)?;
    if bounds.is_empty() && found.iter().all(|f| f.size == 0.0) {
        // Nothing is known, and nothing was tried.
        unknown.push(format!("the distance from {}: it is bounded for one float input", pair.from));
        return Ok(vec![]);
    }
    let mut distances = Vec::new();
    for (output, Found { apart, size, .. }) in model.graph.outputs.iter().zip(found) {
        let bound = bounds.get(&output.name).copied();
        if bound.is_none() {
            unknown.push(format!("the distance of `{}`: an operator on the way is not bounded", output.name));
        }
        let at_most = bound.filter(|most| most.is_finite());
        distances.push(Distance { output: output.name.clone(), at_most, at_least: apart, size });
    }
    Ok(distances)
}

/// The largest error of each output.
fn bounds(pair: &Pair, inputs: (f64, f64)) -> Result<BTreeMap<String, f64>, CertifyError> {
    let Pair { model, twin, .. } = pair;
    let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
    let mut errors: BTreeMap<String, Errors> = BTreeMap::new();
    let [info] = &model.graph.inputs[..] else { return Ok(BTreeMap::new()) };
    let zone = input_zone(&info.concrete(1), inputs)?;
    let Some(form) = &zone.affine else { return Ok(BTreeMap::new()) };
    let symbols = form.generators.size()[0];
    let none = Errors::within(&zone.low.f_zeros_like()?, 2 * symbols)?;
    let (zone, error) = rounded(pair, &info.name, zone, none, Some(symbols))?;
    zones.insert(info.name.clone(), zone);
    errors.insert(info.name.clone(), error);
    for node in &model.graph.nodes {
        let Some(output) = node.outputs.first() else { continue };
        let (Some(zone), Some(error)) = (through(node, twin, &zones)?, follow(node, model, twin, &zones, &errors, symbols)?)
        else {
            continue;
        };
        let moved = model.activations.get(output).is_some_and(|q| moves(model, node, q));
        let (zone, error) = if moved { (zone, error) } else { rounded(pair, output, zone, error, None)? };
        zones.insert(output.clone(), zone);
        errors.insert(output.clone(), error);
    }
    let mut found = BTreeMap::new();
    for output in &model.graph.outputs {
        if let (Some(zone), Some(error)) = (zones.get(&output.name), errors.get(&output.name)) {
            let top = |t: Tensor| t.f_max()?.f_double_value(&[]);
            found.insert(output.name.clone(), top(error.most()?)? + SLACK * top(zone.magnitude()?)?);
        }
    }
    Ok(found)
}

/// A value and its errors behind its quantizer: rounding, and what is cut off at its ends.
fn rounded(pair: &Pair, name: &str, zone: Zone, error: Errors, own: Option<i64>) -> OpResult<(Zone, Errors)> {
    let Some(quantizer) = pair.model.activations.get(name) else { return Ok((zone, error)) };
    let params = quantizer.params()?;
    let ((least, most), step) = (params.ends(), f64::from(params.scale(0)));
    let (zone, error) = match pair.clips {
        // Both sides are cut off alike: what they differ by grows no more than it did.
        true => {
            let (low, high) = error.behind(&zone)?;
            let inside = low.f_ge(f64::from(least))?.f_logical_and(&high.f_le(f64::from(most))?)?.f_to_kind(Kind::Double)?;
            let outside = high.f_le(f64::from(least))?.f_logical_or(&low.f_ge(f64::from(most))?)?;
            let error = error.sloped(&inside, &outside.f_logical_not()?.f_to_kind(Kind::Double)?)?;
            (quantized(&zone, quantizer, 0.0)?, error)
        }
        false => (zone, error),
    };
    let (Errors(form), reach) = (&error, error.0.reach()?);
    // The integer side is the float side less the error.
    let high = zone.high.f_sub(&form.centre)?.f_add(&reach)?;
    let low = zone.low.f_sub(&form.centre)?.f_sub(&reach)?;
    let over = high.f_sub_scalar(f64::from(most))?.f_clamp_min(0.0)?.f_mul_scalar(0.5)?;
    let under = low.f_neg()?.f_add_scalar(f64::from(least))?.f_clamp_min(0.0)?.f_mul_scalar(0.5)?;
    let (mut generators, mut radius) = (form.generators.shallow_clone(), form.radius.f_add(&over)?.f_add(&under)?);
    match own {
        // How each input is rounded is a symbol of its own: half a step, by the program that fills it.
        Some(count) => {
            let shape = [&[count], &zone.low.size()[1..]].concat();
            let own = Tensor::f_eye(count, (Kind::Double, zone.low.device()))?.f_mul_scalar(0.5 * step)?.f_reshape(shape)?;
            generators = Tensor::f_cat(&[&generators.f_narrow(0, 0, count)?, &own], 0)?;
        }
        None => radius = radius.f_add_scalar(ROUNDS * step)?,
    }
    let error = Errors(Affine { centre: form.centre.f_add(&over)?.f_sub(&under)?, generators, radius });
    // Neither side leaves its own ends.
    let error = error.inside(&zone.low.f_sub_scalar(f64::from(most))?, &zone.high.f_sub_scalar(f64::from(least))?)?;
    Ok((zone, error))
}

/// The errors of a node's first result before its own quantizer; `None` where they are not known.
fn follow(
    node: &Node,
    model: &Model,
    twin: &Model,
    zones: &BTreeMap<String, Zone>,
    errors: &BTreeMap<String, Errors>,
    symbols: i64,
) -> OpResult<Option<Errors>> {
    let rank = node.inputs.iter().filter_map(|name| zones.get(name)).map(|zone| zone.low.dim()).max().unwrap_or(1);
    let of = |i: usize| -> OpResult<Option<(Tensor, Errors)>> {
        let name = &node.inputs[i];
        if let (Some(zone), Some(error)) = (zones.get(name), errors.get(name)) {
            return Ok(Some((zone.magnitude()?, Errors(error.0.copy()))));
        }
        // A stored summand may be rounded too.
        let (Some(ours), Some(real)) = (stored(model, name)?, stored(twin, name)?) else { return Ok(None) };
        let shape = [vec![1; rank.saturating_sub(real.dim())], real.size()].concat();
        let (ours, real) = (ours.f_reshape(&shape)?, real.f_reshape(&shape)?);
        let mut error = Errors::within(&real.f_zeros_like()?, 2 * symbols)?;
        error.0.centre = real.f_sub(&ours)?;
        Ok(Some((real.f_abs()?, error)))
    };
    let acts = acts(node, model);
    if matches!(acts, Acts::Sum(_) | Acts::Times) {
        let (Some((a, Errors(x))), Some((b, Errors(y)))) = (of(0)?, of(1)?) else { return Ok(None) };
        if let Acts::Sum(sign) = acts {
            if let Some(sum) = x.plus(&y, sign)? {
                return Ok(Some(Errors(sum)));
            }
            return Ok(Some(Errors::within(&Errors(x).most()?.f_add(&Errors(y).most()?)?, 2 * symbols)?));
        }
        let (x, y) = (Errors(x).most()?, Errors(y).most()?);
        // xy - x'y' = x (y - y') + y' (x - x').
        return Ok(Some(Errors::within(&a.f_mul(&y)?.f_add(&b.f_add(&y)?.f_mul(&x)?)?, 2 * symbols)?));
    }
    if acts == Acts::Concat {
        let each =
            (0..node.inputs.len()).map(|i| of(i)?.map(|(_, e)| e.most()).transpose()).collect::<OpResult<Option<Vec<_>>>>()?;
        let Some(each) = each else { return Ok(None) };
        let all = forward(node, &each.into_iter().map(Some).collect::<Vec<_>>())?;
        return Ok(Some(Errors::within(&all, 2 * symbols)?));
    }
    let first = node.inputs.first().and_then(|name| Some((zones.get(name)?, errors.get(name)?)));
    let Some((zone, error)) = first else { return Ok(None) };
    let form = &error.0;
    Ok(match acts {
        Acts::Linear | Acts::Scale => {
            let same = |name: &String| -> OpResult<bool> {
                Ok(match (stored(model, name)?, stored(twin, name)?) {
                    (Some(ours), Some(real)) => ours.equal(&real),
                    (ours, real) => ours.is_none() && real.is_none(),
                })
            };
            if !node.inputs[1..].iter().map(same).collect::<OpResult<Vec<_>>>()?.into_iter().all(|same| same) {
                return Ok(None);
            }
            let along = slope(node, model, &form.generators).ok().map(|generators| -> OpResult<Option<Affine>> {
                let (centre, radius) = (slope(node, model, &form.centre)?, slope(node, model, &form.radius)?.f_abs()?);
                Ok(Affine { centre, generators, radius }.apart(2 * symbols))
            });
            Some(match along.transpose()?.flatten() {
                Some(form) => Errors(form),
                None => Errors::within(&slope(node, model, &error.most()?)?.f_abs()?, 2 * symbols)?,
            })
        }
        Acts::Product => {
            // Without symbols what the value is counts as a box.
            let x = match &zone.affine {
                Some(form) => form.copy(),
                None => {
                    let (centre, radius) = zone.middle()?;
                    let shape: Vec<i64> = [symbols].into_iter().chain(centre.size().into_iter().skip(1)).collect();
                    Affine { generators: Tensor::f_zeros(shape, (Kind::Double, centre.device()))?, centre, radius }
                }
            };
            // W x + b - (W' x' + b') = W' (x - x') + (W - W') x + (b - b').
            let (ours, real) = (stored(model, &node.inputs[1])?, stored(twin, &node.inputs[1])?);
            let (Some(ours), Some(real)) = (ours, real) else { return Ok(None) };
            let change = real.f_sub(&ours)?;
            let with = |x: &Tensor, weight: &Tensor| -> OpResult<Tensor> {
                let mut inputs = vec![Some(x.shallow_clone()), Some(weight.shallow_clone())];
                if node.inputs.len() > 2 {
                    inputs.push(None);
                }
                forward(node, &inputs)
            };
            let zero = x.centre.f_zeros_like()?;
            let biases = run(node, twin, &zero)?.f_sub(&run(node, model, &zero)?)?;
            let along = || -> OpResult<Affine> {
                let moved = slope(node, model, &form.generators)?;
                let by_inputs = moved.f_narrow(0, 0, symbols)?.f_add(&with(&x.generators, &change)?)?;
                Ok(Affine {
                    centre: slope(node, model, &form.centre)?.f_add(&with(&x.centre, &change)?)?.f_add(&biases)?,
                    generators: Tensor::f_cat(&[&by_inputs, &moved.f_narrow(0, symbols, symbols)?], 0)?,
                    radius: spread(node, model, &form.radius)?.f_add(&with(&x.radius, &change.f_abs()?)?.f_abs()?)?,
                })
            };
            Some(match along().ok().and_then(|form| form.apart(2 * symbols)) {
                Some(form) => Errors(form),
                None => {
                    let by_weights = with(&zone.magnitude()?, &change.f_abs()?)?.f_abs()?;
                    let most = spread(node, model, &error.most()?)?.f_add(&by_weights)?.f_add(&biases.f_abs()?)?;
                    Errors::within(&most, 2 * symbols)?
                }
            })
        }
        Acts::Monotone => {
            if matches!(node.kind(), "MaxPool" | "GlobalMaxPool") {
                return Ok(Some(Errors::within(&run(node, model, &error.most()?)?, 2 * symbols)?));
            }
            let (zero, one) = (zone.low.f_zeros_like()?, zone.low.f_ones_like()?);
            let (least, greatest) = match node.kind() {
                "Relu" => {
                    let (low, high) = error.behind(zone)?;
                    (low.f_gt(0.0)?.f_to_kind(Kind::Double)?, high.f_gt(0.0)?.f_to_kind(Kind::Double)?)
                }
                "Sigmoid" => (zero, one.f_mul_scalar(0.25)?),
                _ => (zero, one),
            };
            Some(error.sloped(&least, &greatest)?)
        }
        // No probability moves by more than half of the largest change of a logit, nor by more than one.
        Acts::Unit => {
            let most = error.most()?.f_max()?.f_double_value(&[])?;
            let shape = run(node, model, &zone.low)?;
            Some(Errors::within(&shape.f_full_like((0.5 * most).min(1.0))?, 2 * symbols)?)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;
    use proptest::prelude::*;
    use sinter_model::zoo::Builder;
    use sinter_model::{Granularity, Levels, QuantParams, Quantizer};

    /// A small network of random weights, quantized as it comes.
    fn network(seed: u64, convolution: bool, bits: u8) -> Model {
        let mut b = Builder::new("m", &[1, 4, 4], seed);
        let mut x = "input".to_string();
        if convolution {
            x = b.conv("c", &x, 3, [3, 3], 1, 1, "SAME_UPPER");
            x = b.relu(&x);
            x = b.max_pool(&x, 2);
        }
        let x = b.flatten(&x);
        let x = b.dense("d1", &x, 5);
        let x = b.relu(&x);
        let x = b.dense("d2", &x, 3);
        let mut model = b.finish(&x).unwrap();
        for layer in model.layers() {
            let weight = model.weight_mut(&layer.weight).unwrap();
            let top = weight.latent().abs().max().double_value(&[]) as f32;
            let params = QuantParams::symmetric(bits, Granularity::Tensor, &[top]).unwrap();
            weight.quantize(Quantizer::new(&params).unwrap()).unwrap();
        }
        let relus: Vec<String> = model.graph.nodes.iter().filter(|n| n.kind() == "Relu").map(|n| n.outputs[0].clone()).collect();
        for name in relus.into_iter().chain(["input".to_string(), model.graph.outputs[0].name.clone()]) {
            let (low, high) = if name == "input" { (-1.0, 1.0) } else { (-1.5, 1.5) };
            let params = QuantParams::affine(8, Levels::Signed, low, high).unwrap();
            model.activations.insert(name, Quantizer::new(&params).unwrap());
        }
        model
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// What a search finds never lies beyond the bound, and the bound is of some use.
        #[test]
        fn bounds_hold_what_searches_find(seed in 0u64..10_000, convolution in any::<bool>(), bits in 4u8..9) {
            let model = network(seed, convolution, bits);
            let inputs = (-1.0, 1.0);
            let mut float = model.copy();
            float.activations.clear();
            float.weights.values_mut().for_each(|w| w.drop_quantizer());
            let float = Reference::Float { model: &float, name: "the float model".into() };
            for reference in [float, Reference::Unrounded] {
                let pair = Pair::new(&model, &reference).unwrap();
                let bounds = bounds(&pair, inputs).unwrap();
                let found = search(&model, &pair.runnable().unwrap(), inputs).unwrap();
                let most = bounds[&model.graph.outputs[0].name];
                let told = format!("from {}: {} found, {most} bounded", pair.from, found[0].apart);
                prop_assert!(found[0].apart <= most, "{told}");
                // What saturates on one side alone is large and found; what rounding adds up to is rarely met.
                let of_use = most < 30.0 * found[0].apart + 0.1 || matches!(reference, Reference::Unrounded);
                prop_assert!(of_use, "{told}");
            }
        }
    }
}
