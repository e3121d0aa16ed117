//! Inputs that drive the integer model away from its float twin: corners of the box, and what lies near the best of them.

use sinter_exec::Runner;
use sinter_model::{ElementType, Mode, Model, Random, seeded, to_f32s};
use tch::{Kind, Tensor};

use crate::error::CertifyError;

/// Inputs tried at once, and how often the best of them are varied.
const TRIES: i64 = 64;
const ROUNDS: usize = 24;

/// The furthest that was found for an output.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The largest difference of an element.
    pub apart: f64,
    /// The largest magnitude of the float output.
    pub size: f64,
}

/// Looks for each output's largest difference; empty where inputs can't be made in batches.
pub(crate) fn search(model: &Model, twin: &Model, (low, high): (f64, f64)) -> Result<Vec<Found>, CertifyError> {
    let [input] = &model.graph.inputs[..] else { return Ok(vec![]) };
    let shape = input.concrete(TRIES);
    if shape.first() != Some(&TRIES) || input.element != ElementType::Float {
        return Ok(vec![]);
    }
    // The same inputs every time: a certificate does not depend on chance.
    seeded(1, |random| climb(random, model, twin, &shape, (low, high)))
}

/// Round by round, from the best that were found so far.
fn climb(
    random: &mut Random,
    model: &Model,
    twin: &Model,
    shape: &[i64],
    (low, high): (f64, f64),
) -> Result<Vec<Found>, CertifyError> {
    let (ours, real) = (Runner::new(model)?, Runner::new(twin)?);
    let mut found = vec![Found { apart: 0.0, size: 0.0 }; model.graph.outputs.len()];
    let corner = |random: &mut Random| -> Result<Tensor, tch::TchError> {
        let up = random.uniform(shape)?.f_gt(0.5)?.f_to_kind(Kind::Float)?;
        up.f_mul_scalar(high - low)?.f_add_scalar(low)
    };
    let mut inputs = corner(random)?;
    for round in 0..ROUNDS {
        let run = |runner: &Runner| tch::no_grad(|| runner.run(&[inputs.shallow_clone()], Mode::Predict));
        let (a, b) = (run(&ours)?, run(&real)?);
        let mut each: Option<Tensor> = None;
        for ((a, b), found) in a.iter().zip(&b).zip(&mut found) {
            let apart = a.f_sub(b)?.f_abs()?.f_reshape([TRIES, -1])?.f_amax(1, false)?;
            found.apart = found.apart.max(apart.f_max()?.f_double_value(&[])?);
            found.size = found.size.max(b.f_abs()?.f_max()?.f_double_value(&[])?);
            each = Some(each.map_or(Ok(apart.shallow_clone()), |e| e.f_maximum(&apart))?);
        }
        let Some(each) = each else { break };
        // The best eight, each varied in some elements: at a corner or anywhere.
        let order = to_f32s(&each.f_argsort(0, true)?.f_to_kind(Kind::Float)?)?;
        let best: Vec<i64> = (0..TRIES as usize).map(|i| order[i % 8] as i64).collect();
        let parents = inputs.f_index_select(0, &Tensor::f_from_slice(&best)?)?;
        let change = random.uniform(shape)?.f_lt(if round % 3 == 0 { 0.3 } else { 0.05 })?;
        let new = match round % 2 {
            0 => corner(random)?,
            _ => random.uniform(shape)?.f_mul_scalar(high - low)?.f_add_scalar(low)?,
        };
        inputs = new.f_where_self(&change, &parents)?;
    }
    Ok(found)
}
