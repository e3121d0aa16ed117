//! Biases tuned on the labels of the calibration samples.

use std::collections::BTreeSet;

use sinter_data::{Augment, Dataset, Split};
use sinter_exec::{Leaf, leaves};
use sinter_model::Model;
use sinter_train::{Callback, Context, FitConfig, StageError, fit_with};

use super::{Needs, Pass};
use crate::config::Mode;
use crate::resolved::Resolved;
use crate::state::State;

/// Of so many samples one is held back, to see whether the others' lesson holds for it.
const HELD_BACK: usize = 4;
/// Steps at least; few samples are seen more often.
const STEPS: usize = 96;
const RATE: f64 = 1e-2;
const BATCH: usize = 32;

/// Trains the biases, the least that can be trained, and enough to bring a model back to the data that it meets (bias tuning; Zaken et al., 2022,
/// there for language models). Costs some hundred steps.
#[derive(Debug)]
pub(crate) struct TuneBiases;

impl Pass for TuneBiases {
    fn name(&self) -> &'static str {
        "tune-biases"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Samples, Needs::Labels, Needs::Gradients]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let config = &resolved.config;
        (config.tune_biases && config.mode == Mode::Ptq).then(|| "on the labels of three quarters of the samples".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        biases(&mut state.model, &state.samples, state.context)
    }
}

/// Trains the biases of a quantized model, and nothing else. Keeps the model as it was where the samples that were held back fare worse.
fn biases(model: &mut Model, samples: &Split, context: &Context) -> Result<(), StageError> {
    let (lesson, held) = samples.every(HELD_BACK);
    if lesson.is_empty() || held.is_empty() {
        return Ok(());
    }
    let before = context.evaluate(model, &held, None)?;
    let mut tuned = model.copy();
    let names: BTreeSet<String> = model.layers().into_iter().filter_map(|l| l.bias).collect();
    let epochs = STEPS.div_ceil(lesson.len().div_ceil(BATCH));
    let data = Dataset { train: lesson, validation: held.sample(0, 0), ..context.data.clone() };
    let config = FitConfig { lr: RATE, batch_size: BATCH, augment: Some(Augment::default()), ..FitConfig::epochs(epochs) };
    let within = Context { data: &data, events: &|_| {}, ..*context };
    fit_with(&mut tuned, &config, &within, &mut OnlyBiases(names))?;
    let after = context.evaluate(&tuned, &held, None)?;
    let text = |value: f64| before.metric.text(value);
    if before.degradation(&after).lost > 0.0 {
        context.note(format!(
            "biases left as they were: tuned, {} samples fell from {} to {}",
            held.len(),
            text(before.value),
            text(after.value)
        ));
        return Ok(());
    }
    context.note(format!(
        "biases tuned: {} samples held back went from {} to {}",
        held.len(),
        text(before.value),
        text(after.value)
    ));
    *model = tuned;
    Ok(())
}

/// Lets no other leaf move.
struct OnlyBiases(BTreeSet<String>);

impl Callback for OnlyBiases {
    fn after_backward(&mut self, model: &Model) -> Result<(), StageError> {
        for (leaf, tensor) in leaves(model) {
            let free = matches!(&leaf, Leaf::Latent(name) if self.0.contains(name));
            let mut gradient = tensor.grad();
            if !free && gradient.defined() {
                let _ = gradient.f_zero_()?;
            }
        }
        Ok(())
    }
}
