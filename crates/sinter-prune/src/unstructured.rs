//! Single weights, or rectangles of them (Han et al., 2015).

use std::collections::BTreeMap;

use sinter_model::{Layer, Model, Ratio};
use sinter_train::{Context, StageError};

use crate::config::{Scope, UnstructuredConfig};
use crate::criteria::WeightCriterion;
use crate::criteria::weight::scores;
use crate::select::{Shares, set_masks};
use crate::sensitivity;
use crate::target::Target;

/// Prunes to the part `progress` (0 to 1) of each share.
pub(crate) fn prune(model: &mut Model, config: &UnstructuredConfig, progress: f64, context: &Context) -> Result<(), StageError> {
    let shares = Shares::new(model, config, &scanned(model, config, context)?)?;
    let criterion = config.criterion.kind();
    let due = shares.each().map(|(l, s)| (l.clone(), Target::Sparsity(s * progress)));
    let targets: Vec<(Layer, Target)> = due.filter(|(_, t)| t.is_some()).collect();
    if let Some(done) = criterion.prune(model, &targets, context) {
        return done;
    }
    let scores = scores(model, &shares.layers, criterion, None, context)?;
    set_masks(model, shares.masks(&scores, progress)?)
}

/// The shares that a sensitivity scan gives, by layer; none where none was asked for.
pub(crate) fn scanned(
    model: &Model,
    config: &UnstructuredConfig,
    context: &Context,
) -> Result<BTreeMap<String, f64>, StageError> {
    if config.scope != Scope::Sensitivity {
        return Ok(BTreeMap::new());
    }
    // What is seen only while training, or takes long, finds the layers that magnitude finds.
    let own = config.criterion.kind();
    let criterion = match own.only_while_training() || own.prunes_by_itself() {
        true => WeightCriterion::default(),
        false => config.criterion.clone(),
    };
    let plain = UnstructuredConfig { criterion: criterion.clone(), scope: Scope::Layer, layers: vec![], ..config.clone() };
    let layers = model.layers();
    let scores = scores(model, &layers, criterion.kind(), None, context)?;
    let names = layers.iter().map(|l| Ok((l.name.clone(), model.weight(&l.weight)?.numel())));
    let names = names.collect::<Result<Vec<_>, StageError>>()?;
    let written = serde_json::to_string(&criterion).unwrap_or_default();
    let what = format!("sensitivity of weights, {written}, blocks of {:?}", config.block);
    let curves = sensitivity::scan(model, &what, &names, context, &|i, share| {
        let sparsity = Ratio::new(share).unwrap_or_default();
        let shares = Shares::new(model, &UnstructuredConfig { sparsity, ..plain.clone() }, &BTreeMap::new())?;
        let mut masks = shares.masks(&scores, 1.0)?;
        masks.retain(|(name, _)| *name == layers[i].weight);
        let mut probe = model.copy();
        set_masks(&mut probe, masks)?;
        Ok(probe)
    })?;
    Ok(sensitivity::allocate(&curves, config.sparsity.get()))
}
