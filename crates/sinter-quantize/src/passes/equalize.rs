//! Equalization: the weights on both sides of a value become equally large (Nagel et al., 2019).

use sinter_model::{Model, OpResult};
use sinter_train::StageError;
use tch::{Kind, Tensor};

use super::Pass;
use crate::bridges::{Bridge, apply, bridges, largest};
use crate::config::Scaling;
use crate::formats::{Format, Per};
use crate::resolved::Resolved;
use crate::state::State;

/// Rounds; each balances every bridge once.
const ROUNDS: usize = 10;

/// Weights of neighbouring layers become equally large (Nagel et al., 2019): for layers whose weight shares one scale, where small channels
/// would otherwise get few levels. Costs a look at the weights.
#[derive(Debug)]
pub(crate) struct Equalize;

impl Pass for Equalize {
    fn name(&self) -> &'static str {
        "equalize"
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let asked = resolved.config.scaling.as_ref().map(|all| all.contains(&Scaling::Equalize));
        let by_tensor = resolved.layers.values().any(|l| l.weight.is_some_and(shares_one_scale));
        asked.unwrap_or(by_tensor).then(|| "weights of neighbouring layers become equally large".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let all = bridges(&state.model);
        let asked = state.resolved.config.scaling.is_some();
        let even: Vec<&Bridge> = all.iter().filter(|b| asked || state.widest(b).is_some_and(shares_one_scale)).collect();
        if !even.is_empty() {
            equalize(&mut state.model, &even)?;
            state.context.note(format!("weights equalized across {} values", even.len()));
        }
        Ok(())
    }
}

fn shares_one_scale(format: Format) -> bool {
    format.per == Per::Tensor && format.bits() <= 8
}

/// How far all rounds together may scale a channel, either way.
const FURTHEST: f64 = 1e3;
/// A channel whose weights are so small a share of the largest is dead: there is nothing to balance.
const DEAD: f64 = 1e-6;

/// Balances the largest magnitudes of both sides of every bridge.
fn equalize(model: &mut Model, bridges: &[&Bridge]) -> Result<(), StageError> {
    // By how much each channel of each bridge was scaled so far: rounds that each stayed within bounds could leave them together.
    let mut so_far: Vec<Option<Tensor>> = bridges.iter().map(|_| None).collect();
    for _ in 0..ROUNDS {
        for (bridge, so_far) in bridges.iter().zip(&mut so_far) {
            let Some((writer, axis)) = bridge.writers.first() else { continue };
            let factors = || -> OpResult<Option<Tensor>> {
                let value = |name: &str| model.weights.get(name).map(|w| w.effective()).transpose();
                let Some(written) = value(writer)? else { return Ok(None) };
                let written = largest(&written, *axis)?;
                let mut read = written.f_zeros_like()?;
                for reader in &bridge.readers {
                    let Some(value) = value(&reader.layer.weight)? else { return Ok(None) };
                    read = read.f_maximum(&largest(&value, reader.axis)?)?;
                }
                let alive = alive(&written)?.f_logical_and(&alive(&read)?)?;
                let ratio = written.f_div(&read)?.f_sqrt()?.f_where_self(&alive, &written.f_ones_like()?)?;
                // A dead channel goes with the others: what reads it stays as large beside them as it was.
                let count = alive.f_sum(Kind::Double)?.f_clamp_min(1.0)?;
                let middle = ratio.f_log()?.f_sum(Kind::Double)?.f_div(&count)?.f_exp()?.f_to_kind(ratio.kind())?;
                let ratio = ratio.f_where_self(&alive, &middle.f_expand_as(&ratio)?)?.f_detach()?;
                let before = match &*so_far {
                    Some(before) => before.shallow_clone(),
                    None => ratio.f_ones_like()?,
                };
                let after = before.f_mul(&ratio)?.f_clamp(1.0 / FURTHEST, FURTHEST)?;
                let factors = after.f_div(&before)?;
                *so_far = Some(after);
                Ok(Some(factors))
            };
            if let Some(factors) = tch::no_grad(factors).map_err(StageError::weight(writer))? {
                apply(model, bridge, &factors)?;
            }
        }
    }
    Ok(())
}

/// Which channels have weights worth balancing.
fn alive(largest: &Tensor) -> OpResult<Tensor> {
    let least = largest.f_max()?.f_double_value(&[])? * DEAD;
    Ok(largest.f_gt(least)?)
}
