//! The accuracy guard: which layers cost the quality, and lifting them until it is back.

use sinter_model::Model;
use sinter_train::{Context, StageError};

use super::{Needs, Pass};
use crate::lifting::{Height, Lifting};
use crate::resolved::Resolved;
use crate::state::State;

/// Samples that quality is measured on where no validation split was set aside.
const SAMPLES: usize = 2000;

/// Lifts the layers that cost most, first to 8 bits, then to float, until no more is lost than `accuracy_drop` allows. Costs a measurement for
/// each layer.
#[derive(Debug)]
pub(crate) struct Lift;

impl Pass for Lift {
    fn name(&self) -> &'static str {
        "lift"
    }

    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[Needs::Samples]
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        resolved.config.accuracy_drop.map(|most| format!("layers that cost too much, until at most {most} is lost"))
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let Some(most) = state.resolved.config.accuracy_drop else { return Ok(()) };
        let Some(float) = &state.float else { return Ok(()) };
        let lifting = Lifting { mode: state.resolved.config.mode, float, activations: state.activations.as_ref() };
        hold(most.get(), &lifting, &mut state.model, state.context)
    }
}

/// Lifts layers, the one that costs most first, to 8 bits and then to float, until `most` is not lost any more; says so when that can't
/// be.
fn hold(most: f64, lift: &Lifting, model: &mut Model, context: &Context) -> Result<(), StageError> {
    let (split, what) = match context.data.validation.is_empty() {
        true => (context.data.train.sample(SAMPLES, context.seed), "training samples"),
        false => (context.data.validation.clone(), "validation samples"),
    };
    let goal = context.evaluate(lift.float, &split, Some(lift.float))?;
    let lost = |model: &Model| -> Result<f64, StageError> {
        Ok(goal.degradation(&context.evaluate(model, &split, Some(lift.float))?).share)
    };
    let text = |lost: f64| format!("{:.2}%", lost * 100.0);
    let mut now = lost(model)?;
    let most = most + 1e-9;
    if now <= most {
        context.note(format!("{} lost on {} {what}: within `accuracy_drop`", text(now), split.len()));
        return Ok(());
    }
    context.note(format!(
        "{} lost on {} {what}, {} allowed: looking for the layers at fault",
        text(now),
        split.len(),
        text(most)
    ));
    let mut guilty = Vec::new();
    let layers = model.layers_and_tables();
    for layer in context.each("sensitivity", &layers) {
        let mut trial = model.copy();
        let after = if lift.lift(&mut trial, layer, Height::Float)? { lost(&trial)? } else { now };
        guilty.push((now - after, layer));
    }
    guilty.sort_by(|a, b| b.0.total_cmp(&a.0));
    for height in [Height::Eight, Height::Float] {
        for (cost, layer) in &guilty {
            let mut trial = model.copy();
            if !lift.lift(&mut trial, layer, height)? {
                continue;
            }
            let after = lost(&trial)?;
            // What does not help is not paid for.
            if after > now {
                continue;
            }
            (*model, now) = (trial, after);
            context.note(format!("`{}` costs {}: lifted to {}, {} lost now", layer.name, text(*cost), height.name(), text(now)));
            if now <= most {
                return Ok(());
            }
        }
    }
    context.note(format!("`accuracy_drop` can't be held: {} are lost with every layer lifted that helps", text(now)));
    Ok(())
}
