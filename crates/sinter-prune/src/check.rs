//! What can be told to be wrong from the configuration, the layers' names and the data.

use sinter_data::Dataset;
use sinter_model::{Model, Ratio};
use sinter_train::{StageError, covers};

use crate::config::{PruneConfig, Rewind, Schedule, Scope};
use crate::criteria::Needs;

impl PruneConfig {
    /// Errors on what can't be pruned so, whatever the shapes.
    pub(crate) fn check(&self, model: &Model, data: &Dataset) -> Result<(), StageError> {
        let error = |key: &str, reason: String| Err(StageError::config(key, reason));
        let kinds = [self.structured.is_some(), self.unstructured.is_some(), self.pattern.is_some(), self.blocks.is_some()];
        let kinds = kinds.into_iter().filter(|k| *k).count();
        if kinds != 1 {
            let reason =
                format!("prune needs exactly one of `structured`, `unstructured`, `pattern` and `blocks`, it has {kinds}");
            return Err(StageError::config_help("", reason, "write one `prune` stage for each kind"));
        }
        if model.layers().is_empty() {
            return error("", "the model has no layer with weights to prune".into());
        }
        if self.pattern.is_none() {
            for (key, written) in [("layers", !self.layers.is_empty()), ("criterion", self.criterion.is_some())] {
                if written {
                    return error(key, format!("`{key}` goes with `pattern`; write it inside `structured` or `unstructured`"));
                }
            }
        }
        for (i, pattern) in self.layers.iter().enumerate() {
            covers(model, pattern, &format!("layers[{i}]"))?;
        }
        let lists = [
            ("structured", self.structured.as_ref().map(|s| &s.layers)),
            ("unstructured", self.unstructured.as_ref().map(|s| &s.layers)),
        ];
        for (key, list) in lists {
            for (i, layer) in list.into_iter().flatten().enumerate() {
                covers(model, &layer.r#match, &format!("{key}.layers[{i}].match"))?;
            }
        }
        let full = |r: Ratio| r.get() >= 1.0;
        if self.structured.as_ref().is_some_and(|s| full(s.ratio) || s.layers.iter().any(|l| full(l.ratio))) {
            return error("structured.ratio", "removing every channel leaves nothing: choose less than 100%".into());
        }
        if self.unstructured.as_ref().is_some_and(|u| u.block.contains(&0)) {
            return error("unstructured.block", "a rectangle has at least one row and one column".into());
        }
        self.check_schedule()?;
        self.check_data(data)?;
        match &self.finetune {
            Some(finetune) => finetune.check("finetune", data),
            None => Ok(()),
        }
    }

    fn check_schedule(&self) -> Result<(), StageError> {
        let help = |key: &str, reason: &str, help: &str| Err(StageError::config_help(key, reason, help));
        if self.schedule != Schedule::OneShot && self.finetune.is_none() {
            return help("schedule", "this schedule prunes while the model trains", "add `finetune: { epochs: ... }`");
        }
        match &self.schedule {
            Schedule::Cubic(_) if self.unstructured.is_none() => {
                return help(
                    "schedule",
                    "the cubic schedule is for single weights",
                    "use `schedule: { iterative: { rounds: 4 } }`",
                );
            }
            Schedule::Cubic(c) if c.every == 0 => return help("schedule.cubic.every", "`every` counts steps", "at least 1"),
            Schedule::Iterative(i) if i.rounds == 0 => {
                return help("schedule.iterative.rounds", "there must be a round", "at least 1");
            }
            Schedule::Iterative(i) if i.rewind == Rewind::Weights && (self.structured.is_some() || self.blocks.is_some()) => {
                let reason = "weights that were removed from the graph can't go back";
                return help("schedule.iterative.rewind", reason, "use `rewind: learning-rate`");
            }
            _ => {}
        }
        let gradual = matches!(self.schedule, Schedule::Cubic(_));
        let (key, criterion) = match &self.unstructured {
            Some(u) => ("unstructured.criterion", Some(&u.criterion)),
            None => ("criterion", self.criterion.as_ref()),
        };
        let Some(choice) = criterion else { return Ok(()) };
        let criterion = choice.kind();
        if criterion.only_while_training() && !gradual {
            let reason = format!("`{}` is only seen while the model trains", choice.name());
            return help(key, &reason, "add `schedule: { cubic: {} }` and `finetune`");
        }
        if criterion.prunes_by_itself() {
            let apart = self
                .unstructured
                .as_ref()
                .is_some_and(|u| !matches!(u.scope, Scope::Layer | Scope::Sensitivity) || u.block != [1, 1]);
            if gradual || apart {
                let reason = "this criterion prunes each layer in one go, weight by weight";
                return help(key, reason, "use `scope: layer` without `block`, one-shot or iterative");
            }
        }
        Ok(())
    }

    fn check_data(&self, data: &Dataset) -> Result<(), StageError> {
        if let Some(s) = &self.structured {
            s.criterion.kind().needs().check(data, "structured.criterion")?;
        }
        if let Some(u) = &self.unstructured {
            u.criterion.kind().needs().check(data, "unstructured.criterion")?;
        }
        if let Some(criterion) = &self.criterion {
            criterion.kind().needs().check(data, "criterion")?;
        }
        match self.blocks {
            Some(_) => Needs::Samples.check(data, "blocks"),
            None => Ok(()),
        }
    }
}
