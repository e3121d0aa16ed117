//! Measuring a model, or anything that turns samples into outputs.

use sinter_data::{Order, Split, Task};
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use tch::Tensor;

use crate::error::TaskError;
use crate::examined::Examined;
use crate::measurement::Measurement;
use crate::metrics::{MetricChoice, Seen};
use crate::objective::gives_probabilities;

/// Samples a batch.
const BATCH: usize = 256;

/// What turns the inputs of a batch into its outputs.
pub type Predict<'a> = &'a mut dyn FnMut(&[Tensor]) -> Result<Vec<Tensor>, TaskError>;

/// Measures a model. `chosen` is the metric, by default what fits the task; `reference` is the float model, whose outputs stand in where
/// there are no labels.
pub fn evaluate(
    model: &Model,
    split: &Split,
    task: Task,
    chosen: Option<&MetricChoice>,
    reference: Option<&Model>,
) -> Result<Measurement, TaskError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    evaluate_with(&mut |x| outputs(&runner, x), split, task, chosen, reference)
}

fn outputs(runner: &Runner, inputs: &[Tensor]) -> Result<Vec<Tensor>, TaskError> {
    let outputs = tch::no_grad(|| runner.run(inputs, Mode::Predict))?;
    if outputs.is_empty() { Err(TaskError::NoOutput) } else { Ok(outputs) }
}

/// Measures anything that turns samples into outputs: our interpreter, or a real runtime on an exported file.
pub fn evaluate_with(
    predict: Predict,
    split: &Split,
    task: Task,
    chosen: Option<&MetricChoice>,
    reference: Option<&Model>,
) -> Result<Measurement, TaskError> {
    let choice = chosen.cloned().unwrap_or_else(|| MetricChoice::fitting(task, split.is_labelled()));
    let mut examined = examine(predict, split, task, &[choice], reference)?;
    Ok(examined.swap_remove(0).measurement)
}

/// Measures a model by several metrics in one pass; tells how many samples are done, of how many.
pub fn examine_model(
    model: &Model,
    split: &Split,
    task: Task,
    choices: &[MetricChoice],
    reference: Option<&Model>,
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<Examined>, TaskError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut done = 0;
    let mut predict = |x: &[Tensor]| {
        progress(done, split.len());
        done += x.first().and_then(|t| t.size().first().copied()).unwrap_or(1) as usize;
        outputs(&runner, x)
    };
    let examined = examine(&mut predict, split, task, choices, reference)?;
    progress(split.len(), split.len());
    Ok(examined)
}

/// Measures anything that turns samples into outputs by several metrics in one pass; what was seen is kept, so that intervals can be told.
pub fn examine(
    predict: Predict,
    split: &Split,
    task: Task,
    choices: &[MetricChoice],
    reference: Option<&Model>,
) -> Result<Vec<Examined>, TaskError> {
    let wanted = choices.iter().any(|c| c.kind().wants_reference());
    let probabilities = reference.is_some_and(gives_probabilities);
    let reference = match reference.filter(|_| wanted) {
        Some(model) => Some(tch::no_grad(|| Runner::new(model))?),
        None => None,
    };
    let mut tallies: Vec<_> = choices.iter().map(|c| c.kind().start()).collect();
    let mut samples = 0;
    for batch in split.batches(BATCH, Order::Stored) {
        let batch = batch?;
        let found = predict(&batch.inputs)?;
        let others = reference.as_ref().map(|runner| outputs(runner, &batch.inputs)).transpose()?;
        let seen = Seen {
            task,
            input: batch.x(),
            outputs: &found,
            labels: batch.y.as_ref(),
            references: others.as_deref(),
            probabilities,
        };
        tallies.iter_mut().try_for_each(|tally| tally.add(&seen))?;
        samples += batch.count() as usize;
    }
    if samples == 0 {
        return Err(TaskError::NoSamples);
    }
    let each = choices.iter().zip(tallies);
    each.map(|(choice, tally)| Examined::new(choice.kind(), tally, samples)).collect()
}
