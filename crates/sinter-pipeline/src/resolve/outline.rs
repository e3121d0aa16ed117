//! A plan for people: what `sinter plan` prints.

use std::fmt;

use serde::Serialize;
use sinter_train::StepPlan;

use super::Plan;
use crate::config::Export;

/// What a pipeline comes to; as JSON or, by its `Display`, as text.
#[derive(Debug, Clone, Serialize)]
pub struct Outline {
    /// Its name.
    pub pipeline: String,
    /// The model and its parameters.
    pub model: String,
    /// Parameters of the model as it came.
    pub parameters: u64,
    /// The data set and its samples.
    pub data: String,
    /// What it is meant for.
    pub target: String,
    /// What quality is measured by.
    pub metric: String,
    /// Same seed, same machine: same result.
    pub seed: u64,
    /// What will be done, in order.
    pub stages: Vec<StageOutline>,
    /// What will be left.
    pub export: Vec<Export>,
}

/// What a stage comes to.
#[derive(Debug, Clone, Serialize)]
pub struct StageOutline {
    /// `1-train`.
    pub name: String,
    /// The name of its result in the cache: the hash of the plan up to here, model and data.
    pub key: String,
    /// What will be done.
    #[serde(flatten)]
    pub plan: StepPlan,
}

impl Plan {
    /// The plan for people.
    pub fn outline(&self) -> Outline {
        let (train, validation, test) = (self.data.train.len(), self.data.validation.len(), self.data.test.len());
        Outline {
            pipeline: self.config.name.clone(),
            model: self.model.name.clone(),
            parameters: self.model.parameters() as u64,
            data: format!("{}: {train} to train on, {validation} to validate, {test} to test", self.data.name),
            target: self.target.name.clone(),
            metric: self.metric().kind().metric().name.to_string(),
            seed: self.config.seed,
            stages: self
                .stages
                .iter()
                .zip(&self.keys[1..])
                .map(|(s, key)| StageOutline { name: s.name.clone(), key: key.name.clone(), plan: s.step.plan().clone() })
                .collect(),
            export: self.config.export.clone(),
        }
    }
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} ({} parameters), seed {}", self.pipeline, self.model, self.parameters, self.seed)?;
        writeln!(f, "data {}; measured by {}; for {}", self.data, self.metric, self.target)?;
        for stage in &self.stages {
            writeln!(f, "\n{}: {}  [{}]", stage.name, stage.plan.what, stage.key)?;
            for pass in &stage.plan.passes {
                writeln!(f, "  · {}: {}", pass.name, pass.what)?;
            }
            let wide = |of: fn(&sinter_train::LayerPlan) -> usize| stage.plan.layers.iter().map(of).max().unwrap_or(0);
            let (names, kinds) = (wide(|l| l.layer.chars().count()), wide(|l| l.kind.chars().count()));
            for layer in &stage.plan.layers {
                let reason = layer.reason.as_deref().map_or_else(String::new, |r| match layer.action.is_empty() {
                    true => format!("left as it is: {r}"),
                    false => format!(" ({r})"),
                });
                writeln!(f, "  {:<names$}  {:<kinds$}  {}{reason}", layer.layer, layer.kind, layer.action)?;
            }
        }
        let exports: Vec<String> = self
            .export
            .iter()
            .map(|e| serde_json::to_value(e).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default())
            .collect();
        match exports.is_empty() {
            true => write!(f, "\nleaves nothing but the report"),
            false => write!(f, "\nleaves {}", exports.join(", ")),
        }
    }
}
