//! From what the user wrote to what will be done.

use std::collections::BTreeMap;

use sinter_model::{Layer, Model};
use sinter_train::{Forecast, LayerPlan, Setting, Stage, StageError, Step, StepPlan, TeacherRef};

use crate::channels::groups;
use crate::config::{NmText, PruneConfig, Schedule, Scope, StructuredConfig, UnstructuredConfig};
use crate::pattern::{Fate, fates, no_multiple, none_takes};
use crate::residual;
use crate::select::Shares;
use crate::step::Prune;

impl Stage for PruneConfig {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.finetune.iter().flat_map(|f| f.teachers()).collect()
    }

    fn resolve(&self, forecast: &mut Forecast, setting: &Setting) -> Result<Box<dyn Step>, StageError> {
        self.check(&forecast.model, setting.data)?;
        let mut plan = StepPlan::new("prune", self.what(), self);
        let layers = if let Some(channels) = &self.structured {
            plan = plan.pass("score", format!("channels by {}", channels.criterion.name()));
            if channels.refit {
                plan = plan.pass("refit", "layers that read removed channels, by least squares");
            }
            structured(channels, forecast)?
        } else if let Some(weights) = &self.unstructured {
            plan = plan.pass("score", format!("weights by {}", weights.criterion.name()));
            unstructured(weights, forecast)?
        } else if let Some(pattern) = self.pattern {
            let criterion = self.criterion.clone().unwrap_or_default();
            plan = plan.pass("score", format!("weights by {}", criterion.name()));
            nm(self, pattern, forecast)?
        } else {
            let count = self.blocks.unwrap_or(0);
            plan = plan.pass("score", "residual blocks by the cosine between input and output");
            blocks(count, forecast)?
        };
        plan = match (&self.schedule, &self.finetune) {
            (_, None) => plan,
            (Schedule::OneShot, Some(fit)) => plan.pass("finetune", fit.describe(setting.data)),
            (Schedule::Cubic(c), Some(fit)) => {
                let grows =
                    format!("{}; masks grow until {} of it, every {} steps", fit.describe(setting.data), c.until, c.every);
                plan.pass("finetune", grows)
            }
            (Schedule::Iterative(i), Some(fit)) => {
                plan.pass("finetune", format!("{} rounds of {}", i.rounds, fit.describe(setting.data)))
            }
        };
        Ok(Box::new(Prune { config: self.clone(), plan: plan.with_layers(layers) }))
    }
}

impl PruneConfig {
    /// What is asked, in a few words.
    fn what(&self) -> String {
        // With that scope the share is not one of what is removed.
        let counted = |scope: Scope, what: &'static str| if scope == Scope::Macs { "MACs" } else { what };
        let asked = match (&self.structured, &self.unstructured, self.pattern, self.blocks) {
            (Some(s), ..) => format!("prune {} of the {}", s.ratio, counted(s.scope, "channels")),
            (_, Some(u), ..) => format!("prune {} of the {}", u.sparsity, counted(u.scope, "weights")),
            (_, _, Some(p), _) => format!("prune to {p}"),
            (.., blocks) => format!("prune {} residual blocks", blocks.unwrap_or(0)),
        };
        self.finetune.as_ref().map_or(asked.clone(), |f| format!("{asked} ({})", f.epochs_text()))
    }
}

fn entry(model: &Model, layer: &Layer, action: String, reason: Option<String>) -> LayerPlan {
    LayerPlan { layer: layer.name.clone(), kind: model.graph.nodes[layer.node].kind().to_string(), action, reason }
}

/// Whether figures are those of the model as it came, though an earlier stage removes something.
fn until_then(forecast: &Forecast) -> &'static str {
    if forecast.shrunk { " at most" } else { "" }
}

fn structured(config: &StructuredConfig, forecast: &mut Forecast) -> Result<Vec<LayerPlan>, StageError> {
    let model = &forecast.model;
    let groups = groups(model)?;
    if groups.is_empty() {
        return Err(StageError::config("structured", "no layer has channels that can be removed"));
    }
    if let Some(layer) = model.layers().iter().find(|l| forecast.of(&l.weight).quantized) {
        let reason = format!("layer `{}` is quantized by then; channels go before", layer.name);
        return Err(StageError::config_help("structured", reason, "put `prune` before `quantize`"));
    }
    if let Some(layer) = model.layers().iter().find(|l| forecast.of(&l.weight).clustered.is_some_and(|d| d > 1)) {
        let reason =
            format!("layer `{}` has centroids of several weights each by then, which can't lose single ones", layer.name);
        return Err(StageError::config_help("structured", reason, "put the structured `prune` stage before `cluster`"));
    }
    let mut of: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for group in &groups {
        for layer in &group.layers {
            let others = group.layers.iter().filter(|l| *l != layer).map(String::as_str).collect();
            of.insert(layer, (group.channels.len(), others));
        }
    }
    let layers = model.layers();
    let plans = layers.iter().map(|layer| {
        let Some((channels, others)) = of.get(layer.name.as_str()) else {
            let reason = "its channels leave the graph, or an operator holds them".to_string();
            return entry(model, layer, String::new(), Some(reason));
        };
        let own = config.layers.iter().rev().find(|o| o.r#match.matches(model, layer)).map(|o| o.ratio);
        let share = match (own, config.scope) {
            (Some(ratio), _) => format!("{ratio}"),
            (None, Scope::Layer) => format!("{}", config.ratio),
            (None, Scope::Global) => "competes for its share".into(),
            (None, Scope::Macs) => "competes for its share by MACs".into(),
            (None, Scope::Sensitivity) => "a scan decides its share".into(),
        };
        let with = if others.is_empty() { String::new() } else { format!(", together with {}", others.join(", ")) };
        let action = format!("{share} of {channels} channels{}{with}", until_then(forecast));
        match own.map(|o| o.get()) {
            Some(0.0) => entry(model, layer, String::new(), Some("`layers` says 0".into())),
            _ => entry(model, layer, action, None),
        }
    });
    let plans = plans.collect();
    forecast.shrunk = true;
    Ok(plans)
}

fn unstructured(config: &UnstructuredConfig, forecast: &mut Forecast) -> Result<Vec<LayerPlan>, StageError> {
    let model = &forecast.model;
    let shares = Shares::new(model, config, &BTreeMap::new())?;
    let mut plans = Vec::new();
    let mut masked = Vec::new();
    for (i, (layer, share)) in shares.each().enumerate() {
        let numel = model.weight(&layer.weight)?.numel();
        let own = config.layers.iter().any(|o| o.r#match.matches(model, layer));
        let text = match config.scope {
            _ if shares.competes(i) => "competes for its share".to_string(),
            Scope::Sensitivity if !own => "a scan decides its share".to_string(),
            _ => format!("{:.4}%", share * 100.0).replace(".0000", ""),
        };
        if share <= 0.0 && !shares.competes(i) {
            plans.push(entry(model, layer, String::new(), Some("`layers` says 0".into())));
            continue;
        }
        let blocks = if config.block == [1, 1] { String::new() } else { format!(" in blocks of {:?}", config.block) };
        let action = format!("{text} of {numel} weights{}{blocks}", until_then(forecast));
        plans.push(entry(model, layer, action, None));
        masked.push(layer.clone());
    }
    masked.iter().for_each(|layer| forecast.set(layer, |e| e.masked = true));
    Ok(plans)
}

fn nm(config: &PruneConfig, pattern: NmText, forecast: &mut Forecast) -> Result<Vec<LayerPlan>, StageError> {
    let model = &forecast.model;
    let mut plans = Vec::new();
    let mut masked = Vec::new();
    for (layer, fate) in fates(model, config, pattern)? {
        plans.push(match fate {
            Fate::Takes(_) => {
                masked.push(layer.clone());
                entry(model, &layer, format!("{pattern} along the input channels"), None)
            }
            Fate::NotNamed => entry(model, &layer, String::new(), Some("`layers` names others".into())),
            Fate::NoMultiple { channels, named } => {
                let reason = no_multiple(&layer.name, channels, pattern.m);
                if named && !forecast.shrunk {
                    return Err(StageError::config("layers", reason));
                }
                let after = if forecast.shrunk { ", unless earlier stages change that" } else { "" };
                entry(
                    model,
                    &layer,
                    String::new(),
                    Some(format!("{channels} input channels are no multiple of {}{after}", pattern.m)),
                )
            }
        });
    }
    if masked.is_empty() && !forecast.shrunk {
        return Err(none_takes(pattern));
    }
    masked.iter().for_each(|layer| forecast.set(layer, |e| e.masked = true));
    Ok(plans)
}

fn blocks(count: usize, forecast: &mut Forecast) -> Result<Vec<LayerPlan>, StageError> {
    let model = &forecast.model;
    let found = residual::blocks(model)?;
    if found.len() < count && !forecast.shrunk {
        let reason = format!("the model has {} residual blocks that can be removed, not {count}", found.len());
        return Err(StageError::config("blocks", reason));
    }
    let within = |layer: &Layer| found.iter().position(|b| b.layers.contains(&layer.name));
    let layers = model.layers();
    let plans = layers.iter().map(|layer| match within(layer) {
        Some(block) => entry(model, layer, format!("may go, with block {} of {}", block + 1, found.len()), None),
        None => entry(model, layer, String::new(), Some("is in no block that can be removed".into())),
    });
    let plans = plans.collect();
    forecast.shrunk = true;
    Ok(plans)
}
