//! Operators that integers make slower stay in float.

use std::collections::BTreeSet;
use std::path::Path;

use sinter_data::Order;
use sinter_exec::{ExecError, Runner, first_step, shapes};
use sinter_export::{OnnxRuntime, RuntimeError, explicit};
use sinter_model::{Mode, Model};
use sinter_onnx::{Storage, save};
use sinter_train::StageError;
use tch::Tensor;

use super::{Needs, Pass};
use crate::placement::{in_integers, place};
use crate::resolved::Resolved;
use crate::sketch::sketch;
use crate::state::State;
use crate::timing::{Costs, faster_in_float};

/// How much slower integers are taken to be than they were measured alone: what stands between kernels (layouts, caches) has no name in a profile.
const FACTORS: [f64; 4] = [1.0, 1.25, 1.6, 2.5];
/// Seconds that one model is run for in one round.
const SECONDS: f64 = 0.25;
/// How often all models are run in turn.
const ROUNDS: usize = 3;
/// What is that close to the fastest is as fast.
const CLOSE: f64 = 1.02;

/// Times every operator in ONNX Runtime, in integers and in float, finds the placement with the least time in all, runs it beside others and keeps the fastest.
/// Costs some seconds.
#[derive(Debug)]
pub(crate) struct Time;

impl Pass for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Samples]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        resolved.config.latency.then(|| "operators that ONNX Runtime computes slower in integers stay in float".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let Some(batch) = state.samples.sample(1, state.context.seed).batches(1, Order::Stored).next().transpose()? else {
            return Ok(());
        };
        let inputs = first_step(&state.model.graph, &batch.inputs).map_err(ExecError::from)?;
        match measure(state, &inputs) {
            Ok(Choice { float, told }) => {
                state.context.note(told);
                float.into_iter().for_each(|i| state.model.graph.nodes[i].in_float = true);
                Ok(())
            }
            Err(Failed::Runtime(e)) => Err(StageError::config("latency", format!("nothing could be timed: {e}"))),
            Err(Failed::Stage(e)) => Err(e),
        }
    }
}

/// Why nothing could be timed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// What came out.
struct Choice {
    float: BTreeSet<usize>,
    told: String,
}

/// One placement, as a file that runs.
struct Trial {
    float: BTreeSet<usize>,
    runtime: OnnxRuntime,
    micros: f64,
}

fn measure(state: &State, inputs: &[Tensor]) -> Result<Choice, Failed> {
    let (model, resolved) = (&state.model, state.resolved);
    let folder = tempfile::tempdir().map_err(|e| RuntimeError::Runtime(format!("no place for trials: {e}")))?;
    let file = |name: &str| folder.path().join(format!("{name}.onnx"));
    let integer = in_integers(model, resolved);
    let written = |e: &dyn std::fmt::Display| RuntimeError::Runtime(format!("a trial could not be written: {e}"));
    save(model, &file("float"), Storage::Inside).map_err(|e| written(&e))?;
    let mut float = OnnxRuntime::open(&file("float"))?;
    // A first run tells how many fit.
    let (once, _) = float.latency(inputs, 3)?;
    let runs = ((SECONDS / once.as_secs_f64().max(1e-6)) as usize).clamp(5, 500);
    let mut count = 0;
    let mut progress = || {
        count += 1;
        state.context.progress("timing", count, FACTORS.len() + 4);
    };

    let reals = reals(model, inputs)?;
    let write = |float: &BTreeSet<usize>, to: &Path| -> Result<(), Failed> {
        let mut trial = model.copy();
        float.iter().for_each(|&i| trial.graph.nodes[i].in_float = true);
        let mut placement = place(&trial, resolved, &(&integer - float));
        placement.own.retain(|name| reals.contains(name));
        placement.shared.retain(|(_, from)| reals.contains(from));
        sketch(&mut trial, resolved, &placement, &|layer| state.weight(layer))?;
        explicit(&trial).map_err(|e| written(&e))?.save(to).map_err(|e| written(&e))?;
        Ok(())
    };
    write(&BTreeSet::new(), &file("integer"))?;
    let float_times = OnnxRuntime::profile(&file("float"), inputs, runs)?;
    progress();
    let integer_times = OnnxRuntime::profile(&file("integer"), inputs, runs)?;
    progress();
    let costs = Costs::new(model, &float_times, &integer_times, &shapes(model).map_err(StageError::from)?);

    // All in integers is written already; what several factors say is tried once.
    let mut placements = vec![(BTreeSet::new(), file("integer"))];
    let cuts = FACTORS.iter().map(|&factor| faster_in_float(model, &integer, &costs, factor));
    for float in cuts.chain([integer.clone()]) {
        if placements.iter().all(|(known, _)| *known != float) {
            let to = file(&format!("trial{}", placements.len()));
            write(&float, &to)?;
            placements.push((float, to));
        }
    }
    let mut trials = Vec::new();
    for (float, to) in placements {
        // The runtime may refuse what it makes of a mixture.
        match OnnxRuntime::open(&to).and_then(|mut runtime| runtime.run_all(inputs).map(|_| runtime)) {
            Ok(runtime) => trials.push(Trial { float, runtime, micros: f64::INFINITY }),
            Err(e) => tracing::debug!("{} of {} in float: {e}", float.len(), integer.len()),
        }
        progress();
    }
    let mut float_micros = f64::INFINITY;
    for _ in 0..ROUNDS {
        let median = |runtime: &mut OnnxRuntime| Ok::<f64, Failed>(runtime.latency(inputs, runs)?.0.as_secs_f64() * 1e6);
        float_micros = float_micros.min(median(&mut float)?);
        for trial in &mut trials {
            trial.micros = trial.micros.min(median(&mut trial.runtime)?);
        }
    }
    Ok(choose(integer.len(), &trials, float_micros))
}

/// The values that are real numbers: calibration leaves out others, such as shapes.
fn reals(model: &Model, inputs: &[Tensor]) -> Result<BTreeSet<String>, StageError> {
    let mut found: BTreeSet<String> = model.graph.inputs.iter().map(|i| i.name.clone()).collect();
    tch::no_grad(|| -> Result<(), StageError> {
        Runner::new(model)?.run_tapped(inputs, Mode::Predict, &mut |name, value| {
            if value.is_floating_point() {
                found.insert(name.to_string());
            }
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(found)
}

/// The fastest; of those as fast the one with the most integers.
fn choose(could: usize, trials: &[Trial], float_micros: f64) -> Choice {
    for trial in trials {
        tracing::debug!("{} of {could} in float: {:.1} us", trial.float.len(), trial.micros);
    }
    let fastest = trials.iter().map(|t| t.micros).fold(f64::INFINITY, f64::min);
    let near = trials.iter().filter(|t| t.micros <= fastest * CLOSE);
    let Some(best) = near.min_by_key(|t| t.float.len()) else {
        let told = "`latency` chose nothing: ONNX Runtime ran no placement of integers".into();
        return Choice { float: BTreeSet::new(), told };
    };
    let ms = |micros: f64| format!("{:.3} ms", micros / 1e3);
    let whole = trials.iter().find(|t| t.float.is_empty());
    let told = format!(
        "{} of {could} operators that could be integers are faster in float and stay so: {} against {} with all in integers and {} \
         in float (ONNX Runtime, one thread, this machine)",
        best.float.len(),
        ms(best.micros),
        whole.map_or_else(|| "an error".to_string(), |t| ms(t.micros)),
        ms(float_micros)
    );
    Choice { float: best.float.clone(), told }
}
