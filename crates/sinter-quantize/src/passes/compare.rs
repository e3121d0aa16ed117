//! What rounding took from the outputs, said where it is much.

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::Order;
use sinter_exec::Runner;
use sinter_model::{Mode as Run, Model, Node, OpResult};
use sinter_train::StageError;
use tch::{Kind, Tensor};

use super::{Needs, Pass};
use crate::config::Mode;
use crate::resolved::Resolved;
use crate::state::State;

/// Samples that both models are run on.
const SAMPLES: usize = 64;
/// Samples on which every value is looked at.
const FEW: i64 = 8;
/// From this share of an output's size on it is told.
const MUCH: f64 = 0.25;
/// A sample in so many that each move that much of their own size is told too: beside samples that are far larger they would not be seen.
const SOME: f64 = 0.25;

/// Runs the model beside what it was before it was rounded, and names the layer that is to blame where outputs moved by a quarter of their size. Costs two
/// runs on a few samples.
#[derive(Debug)]
pub(crate) struct Compare;

impl Pass for Compare {
    fn name(&self) -> &'static str {
        "compare"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Samples]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        (resolved.config.mode == Mode::Ptq).then(|| "how far outputs moved".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let Some(float) = &state.float else { return Ok(()) };
        let split = state.samples.sample(SAMPLES, state.context.seed);
        let Some(batch) = split.batches(SAMPLES, Order::Stored).next().transpose()? else { return Ok(()) };
        let outputs: BTreeSet<String> = float.graph.outputs.iter().map(|o| o.name.clone()).collect();
        let moved = |values: BTreeSet<String>, inputs: &[Tensor]| -> Result<BTreeMap<String, Moved>, StageError> {
            let wanted = values_of(float, inputs, &values)?;
            let found = values_of(&state.model, inputs, &values)?;
            let both = wanted.iter().filter_map(|(name, value)| Some((name, value, found.get(name)?)));
            let each = both.map(|(name, a, b)| Ok((name.clone(), apart(a, b).map_err(StageError::weight(name))?)));
            each.collect()
        };
        let outputs = moved(outputs, &batch.inputs)?;
        let most = outputs.values().map(|m| m.whole).fold(0.0, f64::max);
        let samples = outputs.values().map(|m| m.samples).fold(0.0, f64::max);
        if most < MUCH && samples < SOME {
            return Ok(());
        }
        // The node that adds the most to what it reads; where weights alone are rounded it can only be one that has a weight.
        let layers: BTreeSet<usize> = float.layers().into_iter().map(|l| l.node).collect();
        let weights_only = state.model.activations.is_empty();
        let nodes = float.graph.nodes.iter().enumerate();
        let to_blame = |(at, n): &(usize, &Node)| n.op.gives_reals() && (!weights_only || layers.contains(at));
        let nodes: Vec<&Node> = nodes.filter(to_blame).map(|(_, n)| n).collect();
        let around =
            nodes.iter().flat_map(|n| n.present_inputs().chain(&n.outputs)).filter(|name| !float.weights.contains_key(*name));
        let few: Vec<Tensor> = batch.inputs.iter().map(|x| x.f_narrow(0, 0, batch.count().min(FEW))).collect::<Result<_, _>>()?;
        let each = moved(around.cloned().collect(), &few)?;
        let adds = |n: &&Node| {
            let at = |name: &String| each.get(name).map_or(0.0, |m| if most < MUCH { m.typical } else { m.whole });
            at(&n.outputs[0]) - n.present_inputs().map(at).fold(0.0, f64::max)
        };
        let Some(worst) = nodes.into_iter().max_by(|a, b| adds(a).total_cmp(&adds(b))) else { return Ok(()) };
        let advice = match layers.iter().any(|&at| float.graph.nodes[at].name == worst.name) {
            true => "give that layer more bits or leave it in float under `layers`, or train through the rounding (`mode: qat`)",
            false => "`activations: dynamic` or `none` leaves it in float",
        };
        let percent = |share: f64| format!("{:.0} %", 100.0 * share.min(10.0));
        let what = match most < MUCH {
            true => format!("{} of {} samples by more than {} of their own size", percent(samples), batch.count(), percent(MUCH)),
            false => format!("outputs by {} of their size on {} samples", percent(most), batch.count()),
        };
        state.context.note(format!(
            "rounding moved {what}, and most of it comes in at {} `{}` ({}): {advice}",
            worst.kind(),
            worst.name,
            percent(adds(&worst)),
        ));
        Ok(())
    }
}

/// Values by name; inputs are as they come.
fn values_of(model: &Model, inputs: &[Tensor], wanted: &BTreeSet<String>) -> Result<BTreeMap<String, Tensor>, StageError> {
    let mut found = BTreeMap::new();
    tch::no_grad(|| -> Result<(), StageError> {
        Runner::new(model)?.run_tapped(inputs, Run::Predict, &mut |name, value| {
            if wanted.contains(name) {
                found.insert(name.to_string(), value.shallow_clone());
            }
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(found)
}

/// How far a value moved, as largest differences over largest magnitudes.
struct Moved {
    /// Over all samples.
    whole: f64,
    /// The share of samples that each moved by [`MUCH`].
    samples: f64,
    /// The mean over samples, none counted for more than all of its size.
    typical: f64,
}

fn apart(wanted: &Tensor, found: &Tensor) -> OpResult<Moved> {
    let by_sample = |t: Tensor| -> OpResult<Vec<f64>> {
        let rows = if t.dim() == 0 { 1 } else { t.size()[0].max(1) };
        Ok(Vec::try_from(t.f_abs()?.f_reshape([rows, -1])?.f_amax(1, false)?.f_contiguous()?)?)
    };
    let [wanted, found] = [wanted.f_to_kind(Kind::Double)?, found.f_to_kind(Kind::Double)?];
    let (off, size) = (by_sample(found.f_sub(&wanted)?)?, by_sample(wanted)?);
    let share = |off: f64, size: f64| if size > 0.0 { off / size } else { 0.0 };
    let each: Vec<f64> = off.iter().zip(&size).map(|(&off, &size)| share(off, size)).collect();
    let top = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let mean = |value: &dyn Fn(f64) -> f64| each.iter().map(|&share| value(share)).sum::<f64>() / each.len().max(1) as f64;
    Ok(Moved {
        whole: share(top(&off), top(&size)),
        samples: mean(&|share| f64::from(u8::from(share >= MUCH))),
        typical: mean(&|share| share.min(1.0)),
    })
}
