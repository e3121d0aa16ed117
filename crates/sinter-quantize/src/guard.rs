//! The accuracy guard: which layers cost the quality, and lifting them until it is back.

use sinter_model::Model;
use sinter_train::{Context, StageError, evaluate};

use crate::lift::{Height, Lift};

/// Samples that quality is measured on where no validation split was set aside.
const SAMPLES: usize = 2000;

/// Lifts layers, the one that costs most first, to 8 bits and then to float, until `most` is not lost any more; says so when that can't
/// be.
pub(crate) fn hold(most: f64, lift: &Lift, model: &mut Model, context: &Context) -> Result<(), StageError> {
    let (split, what) = match context.data.validation.is_empty() {
        true => (context.data.train.sample(SAMPLES, context.seed), "training samples"),
        false => (context.data.validation.clone(), "validation samples"),
    };
    let score = |model: &Model| evaluate(model, &split, context.data.task, Some(lift.float));
    let goal = score(lift.float)?;
    let lost = |model: &Model| -> Result<f64, StageError> { Ok(goal.lost(&score(model)?)) };
    let text = |lost: f64| format!("{:.2} points", lost * 100.0);
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
    let layers = model.layers();
    for (i, layer) in layers.iter().enumerate() {
        context.progress("sensitivity", i, layers.len());
        let mut trial = model.copy();
        lift.lift(&mut trial, layer, Height::Float)?;
        let left = lost(&trial)?;
        guilty.push((now - left, layer));
    }
    guilty.sort_by(|a, b| b.0.total_cmp(&a.0));
    for height in [Height::Eight, Height::Float] {
        for (cost, layer) in &guilty {
            let mut trial = model.copy();
            if !lift.lift(&mut trial, layer, height)? {
                continue;
            }
            let left = lost(&trial)?;
            // What does not help is not paid for.
            if left > now {
                continue;
            }
            (*model, now) = (trial, left);
            context.note(format!("`{}` costs {}: lifted to {}, {} lost now", layer.name, text(*cost), height.name(), text(now)));
            if now <= most {
                return Ok(());
            }
        }
    }
    context.note(format!("`accuracy_drop` can't be held: {} are lost with every layer lifted that helps", text(now)));
    Ok(())
}
