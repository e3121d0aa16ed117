//! Measuring a model, or anything that turns samples into outputs.

use sinter_data::{Order, Split, Task};
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use tch::Tensor;

use crate::error::TaskError;
use crate::measurement::Measurement;
use crate::metrics::{MetricChoice, Seen};

/// Samples a batch.
const BATCH: usize = 256;

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
    evaluate_with(&mut |x| first_output(&runner, x), split, task, chosen, reference)
}

fn first_output(runner: &Runner, inputs: &[Tensor]) -> Result<Tensor, TaskError> {
    let outputs = tch::no_grad(|| runner.run(inputs, Mode::Predict))?;
    outputs.into_iter().next().ok_or(TaskError::NoOutput)
}

/// Measures anything that turns samples into outputs: our interpreter, or a real runtime on an exported file.
pub fn evaluate_with(
    predict: &mut dyn FnMut(&[Tensor]) -> Result<Tensor, TaskError>,
    split: &Split,
    task: Task,
    chosen: Option<&MetricChoice>,
    reference: Option<&Model>,
) -> Result<Measurement, TaskError> {
    let default;
    let choice = match chosen {
        Some(choice) => choice,
        None => {
            default = MetricChoice::fitting(task, split.is_labelled());
            &default
        }
    };
    let measure = choice.kind();
    let reference = match reference.filter(|_| measure.wants_reference()) {
        Some(model) => Some(tch::no_grad(|| Runner::new(model))?),
        None => None,
    };
    let mut tally = measure.start();
    let mut samples = 0;
    for batch in split.batches(BATCH, Order::Stored) {
        let batch = batch?;
        let n = batch.count();
        let output = predict(&batch.inputs)?.f_reshape([n, -1])?;
        let other = match &reference {
            Some(runner) => Some(first_output(runner, &batch.inputs)?.f_reshape([n, -1])?),
            None => None,
        };
        let input = batch.x().f_reshape([n, -1])?;
        tally.add(&Seen { input: &input, output: &output, labels: batch.y.as_ref(), reference: other.as_ref() })?;
        samples += n as usize;
    }
    if samples == 0 {
        return Err(TaskError::NoSamples);
    }
    let outcome = tally.finish();
    let (top5, confusion) = (outcome.top5, outcome.confusion);
    Ok(Measurement { metric: measure.metric(), value: outcome.value, samples, top5, confusion })
}
