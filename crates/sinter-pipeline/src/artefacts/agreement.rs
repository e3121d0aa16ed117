//! Whether an exported file answers as the simulation of it did, and if not, where it begins to differ.

use std::path::Path;

use sinter_data::{Dataset, Order, Split, Task};
use sinter_exec::{ExecError, Runner, first_step};
use sinter_export::{OnnxRuntime, dequantized, explicit};
use sinter_model::{Dim, ElementType, Mode, Model, ValueInfo, to_f32s};
use sinter_onnx::Storage;
use tch::{Kind, Tensor};

use super::ArtefactError;

/// Samples whose answers are compared.
const SAMPLES: usize = 2048;
/// Samples whose inner values are compared, where answers differ.
const FEW: usize = 32;
const BATCH: usize = 256;
/// The share of a metric that may differ before somebody is told.
const SHARE: f64 = 0.005;
/// The share of equal predictions below which they differ by more than halves that round the other way.
const EQUAL: f64 = 0.99;
/// How far outputs may lie apart on average, as a share of their size.
const APART: f64 = 0.05;
/// The quantile of a chi-squared distribution of one degree of freedom that one in twenty exceeds.
const CHI_SQUARED: f64 = 3.841;

/// The answers of both, side by side.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    samples: u64,
    /// Samples with the same largest output.
    equal: u64,
    /// Samples of which only the simulation, or only the file, hit the label.
    alone: (u64, u64),
    /// Sums of squared differences and of squared outputs.
    squares: (f64, f64),
    labelled: bool,
}

impl Agreement {
    /// Runs both over samples of a split.
    pub fn measure(model: &Model, data: &Dataset, seed: u64, runtime: &mut OnnxRuntime) -> Result<Self, ArtefactError> {
        let split = data.test.sample(SAMPLES, seed);
        // An anomaly's flag is no class that an output names.
        let labelled = matches!(data.task, Task::Classify(_)) && split.is_labelled();
        let mut found = Self { labelled, ..Self::default() };
        let runner = tch::no_grad(|| Runner::new(model))?;
        for batch in split.batches(BATCH, Order::Stored) {
            let batch = batch?;
            let simulated = tch::no_grad(|| runner.run(&batch.inputs, Mode::Predict))?;
            let Some(simulated) = simulated.first() else { continue };
            let Some(exported) = runtime.answer(&model.graph, &batch.inputs)?.into_iter().next() else { continue };
            found.add(simulated, &exported, batch.y.as_ref())?;
        }
        Ok(found)
    }

    fn add(&mut self, simulated: &Tensor, exported: &Tensor, labels: Option<&Tensor>) -> Result<(), ArtefactError> {
        let n = simulated.size().first().copied().unwrap_or(1);
        let (a, b) = (simulated.f_reshape([n, -1])?, exported.f_reshape([n, -1])?);
        let count = |t: Tensor| -> Result<u64, tch::TchError> { Ok(t.f_sum(Kind::Int64)?.f_int64_value(&[])?.max(0) as u64) };
        let sum = |t: Tensor| -> Result<f64, tch::TchError> { t.f_sum(Kind::Double)?.f_double_value(&[]) };
        self.squares.0 += sum(a.f_sub(&b)?.f_square()?)?;
        self.squares.1 += sum(a.f_square()?)?;
        let (a, b) = (a.f_argmax(1, false)?, b.f_argmax(1, false)?);
        self.samples += n.max(0) as u64;
        self.equal += count(a.f_eq_tensor(&b)?)?;
        if let Some(labels) = labels.filter(|_| self.labelled) {
            let (a, b) = (a.f_eq_tensor(labels)?, b.f_eq_tensor(labels)?);
            self.alone.0 += count(a.f_logical_and(&b.f_logical_not()?)?)?;
            self.alone.1 += count(b.f_logical_and(&a.f_logical_not()?)?)?;
        }
        Ok(())
    }

    /// The share of equal predictions, where outputs are scores of classes.
    pub fn equal(&self) -> Option<f64> {
        (self.labelled && self.samples > 0).then_some(self.equal as f64 / self.samples as f64)
    }

    /// Whether the two differ by more than the noise of these samples; `apart` is how much of the metric lies between them.
    pub fn is_broken(&self, apart: f64) -> bool {
        // Of few samples two may fall otherwise.
        let few = if self.equal().is_some() { 2.0 / self.samples as f64 } else { 0.0 };
        let within = |value: f64, most: f64| value <= most;
        // What is no number is within nothing.
        if !within(apart.abs(), SHARE.max(few)) || !self.squares.0.is_finite() {
            return true;
        }
        match self.equal() {
            // McNemar's test with continuity correction (McNemar, 1947; Edwards, 1948).
            Some(equal) => {
                let (a, b) = (self.alone.0 as f64, self.alone.1 as f64);
                equal < EQUAL.min(1.0 - few) || ((a - b).abs() - 1.0).max(0.0).powi(2) > CHI_SQUARED * (a + b)
            }
            None => !within(self.squares.0, APART * APART * self.squares.1),
        }
    }

    /// In words: what share of predictions is equal, or how far outputs lie apart.
    pub fn text(&self) -> String {
        match self.equal() {
            Some(equal) => format!("{:.2} % of {} predictions are equal", equal * 100.0, self.samples),
            None => {
                let apart = (self.squares.0 / self.squares.1.max(f64::MIN_POSITIVE)).sqrt();
                format!("outputs lie {:.2} % apart on {} samples", apart * 100.0, self.samples)
            }
        }
    }
}

/// The first quantized value at which the exported file leaves the simulation, in words; `None` where none does: then it happens behind the
/// last of them.
pub(super) fn first_that_differs(model: &Model, split: &Split, scratch: &Path) -> Result<Option<String>, ArtefactError> {
    let mut seen: Vec<(String, Tensor)> = Vec::new();
    let Some(batch) = split.batches(FEW, Order::Stored).next() else { return Ok(None) };
    let inputs = first_step(&model.graph, &batch?.inputs).map_err(ExecError::from)?;
    tch::no_grad(|| {
        Runner::new(model)?.run_tapped(&inputs, Mode::Predict, &mut |name, value| {
            if model.activations.contains_key(name) {
                seen.push((name.to_string(), value.shallow_clone()));
            }
            Ok(())
        })
    })?;
    // The same file with all of these among its outputs.
    let mut shown = explicit(model)?.model;
    let outputs = seen.iter().map(|(name, value)| {
        let dims = value.size().into_iter().enumerate();
        let shape = dims.map(|(axis, n)| if axis == 0 { Dim::Free("batch".into()) } else { Dim::Fixed(n) }).collect();
        ValueInfo { name: dequantized(model, name), element: ElementType::Float, shape }
    });
    shown.graph.outputs = outputs.collect();
    let file = scratch.join("shown.onnx");
    sinter_onnx::save(&shown, &file, Storage::Inside)?;
    let exported = OnnxRuntime::open(&file)?.run_all(&inputs)?;
    for ((name, simulated), exported) in seen.iter().zip(exported) {
        let Some(scale) = model.activations.get(name).and_then(|q| q.scales().ok()?.first().copied()) else { continue };
        let off = exported.f_reshape(simulated.size())?.f_sub(simulated)?.f_abs()?.f_gt(1.5 * f64::from(scale))?;
        let share = to_f32s(&off.f_to_kind(Kind::Float)?.f_mean(Kind::Float)?)?.first().copied().unwrap_or(0.0);
        // A step here and there is rounding.
        if share > 1e-3 {
            let node = model.graph.nodes.iter().find(|n| n.outputs.contains(name));
            let node = node.map_or_else(|| "the input".to_string(), |n| format!("{} `{}`", n.kind(), n.name));
            return Ok(Some(format!(
                "the first value that differs is `{name}`, behind {node}: {:.1} % of it by more than a step",
                share * 100.0
            )));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(simulated: &[[f32; 2]], exported: &[[f32; 2]], labels: Option<&[i64]>) -> Agreement {
        let tensor = |rows: &[[f32; 2]]| Tensor::from_slice(&rows.concat()).reshape([-1, 2]);
        let mut found = Agreement { labelled: labels.is_some(), ..Agreement::default() };
        found.add(&tensor(simulated), &tensor(exported), labels.map(Tensor::from_slice).as_ref()).unwrap();
        found
    }

    #[test]
    fn noise_is_told_from_a_difference() {
        let zero = [1.0, 0.0];
        let one = [0.0, 1.0];
        let same = vec![zero; 1000];
        assert!(!of(&same, &same, Some(&[0; 1000])).is_broken(0.0));
        assert!(of(&same, &same, Some(&[0; 1000])).is_broken(0.006));
        // Nine of a thousand differ, to both sides alike: noise.
        let some = |flipped: std::ops::Range<usize>| -> Vec<[f32; 2]> {
            (0..1000).map(|i| if flipped.contains(&i) { one } else { zero }).collect()
        };
        let half: Vec<i64> = (0..1000).map(|i| i64::from(i % 2 == 0)).collect();
        assert!(!of(&same, &some(0..9), Some(&half)).is_broken(0.001));
        // The same number, always to the worse: McNemar's (9 - 1)^2 / 9 = 7.1.
        assert!(of(&same, &some(0..9), Some(&[0; 1000])).is_broken(0.001));
        assert!(of(&same, &some(0..11), Some(&half)).is_broken(0.0));
        // Without labels it is the outputs that count.
        let near = vec![[1.01, 0.0]; 1000];
        assert!(!of(&same, &near, None).is_broken(0.0) && of(&same, &vec![[1.1, 0.0]; 1000], None).is_broken(0.0));
        assert!(of(&same, &vec![[f32::NAN, 0.0]; 1000], None).is_broken(0.0) && of(&same, &same, None).is_broken(f64::NAN));
        // One of thirty is no sign.
        assert!(!of(&same[..30], &some(0..1)[..30], Some(&[0; 30])).is_broken(1.0 / 30.0));
        assert_eq!(of(&same, &near, None).text(), "outputs lie 1.00 % apart on 1000 samples");
    }
}
