//! Stages of a pipeline, resolved one after the other against what those before will leave.

use std::path::Path;

use sinter_model::Model;
use sinter_train::{Forecast, Setting, StageError, Step, TeacherRef};

use crate::config::PipelineConfig;
use crate::files::{ConfigError, Source};

/// A resolved stage.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Its name in the run: `1-train`.
    pub name: String,
    /// The same without its number: its own name, else its kind.
    pub label: String,
    /// Its kind: `train`.
    pub kind: &'static str,
    /// Whether it trains the float model.
    pub is_training: bool,
    /// What will be done.
    pub step: Box<dyn Step>,
    /// Teachers that came as files.
    pub teachers: Vec<(TeacherRef, Model)>,
}

/// Resolves all stages. The forecast then stands for the model that the last one will leave.
pub(super) fn resolve(
    config: &PipelineConfig,
    forecast: &mut Forecast,
    setting: &Setting,
    folder: &Path,
    source: &Source,
) -> Result<Vec<Planned>, ConfigError> {
    let mut planned: Vec<Planned> = Vec::new();
    for (i, entry) in config.stages.iter().enumerate() {
        let stage = entry.config.stage();
        label(config, i, source)?;
        let path = format!("stages[{i}].{}", stage.name());
        let step = stage.resolve(forecast, setting).map_err(|e| match e {
            StageError::Config { key, reason, help } => {
                let at = if key.is_empty() { path.clone() } else { format!("{path}.{key}") };
                source.error(&at, reason, help)
            }
            other => source.error(&path, other.to_string(), None),
        })?;
        let mut teachers = Vec::new();
        for teacher in stage.teachers() {
            let wrong = |reason, help| source.error(&format!("{path}.teacher"), reason, help);
            match &teacher {
                TeacherRef::Float => {}
                TeacherRef::Stage(name) if find(&planned, name).is_some() => {}
                TeacherRef::Stage(_) => {
                    let before: Vec<String> = planned.iter().map(|p| format!("stage:{}", p.label)).collect();
                    let help = match before.is_empty() {
                        true => "no stage comes before".to_string(),
                        false => format!("before it come {}", before.join(", ")),
                    };
                    return Err(wrong(format!("the teacher `{teacher}` names no earlier stage"), Some(help)));
                }
                TeacherRef::Onnx(file) => {
                    let read = sinter_onnx::load(&folder.join(file), &sinter_onnx::Options::default());
                    let model = read.map_err(|e| wrong(format!("the teacher {}: {e}", file.display()), None))?;
                    teachers.push((teacher, model));
                }
            }
        }
        let (kind, is_training) = (stage.name(), stage.is_training());
        let label = entry.name.clone().unwrap_or_else(|| kind.to_string());
        planned.push(Planned { name: format!("{}-{label}", i + 1), label, kind, is_training, step, teachers });
    }
    Ok(planned)
}

/// The last stage of that name (`2-prune`, or its own) or kind (`prune`), counted from zero.
pub(crate) fn find(planned: &[Planned], name: &str) -> Option<usize> {
    planned.iter().rposition(|p| p.name == name || p.label == name).or_else(|| planned.iter().rposition(|p| p.kind == name))
}

/// A stage's own name must be one that files and references can have, and that no other stage goes by.
fn label(config: &PipelineConfig, at: usize, source: &Source) -> Result<(), ConfigError> {
    let Some(name) = &config.stages[at].name else { return Ok(()) };
    let wrong = |reason: String, help: &str| Err(source.error(&format!("stages[{at}].name"), reason, Some(help.to_string())));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) || name.len() > 40 {
        return wrong(
            format!("`{name}` is no name of a stage"),
            "letters, digits, `-` and `_`, a letter first, at most 40 of them",
        );
    }
    let taken = config.stages.iter().enumerate().any(|(i, other)| {
        i != at && (other.name.as_ref() == Some(name) || (other.name.is_none() && other.config.stage().name() == name))
    });
    match taken {
        true => wrong(format!("another stage is called `{name}`"), "give each stage a name of its own"),
        false => Ok(()),
    }
}
