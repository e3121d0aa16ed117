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
    for (i, stage) in config.stages.iter().enumerate() {
        let stage = stage.stage();
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
                    let before: Vec<String> = planned.iter().map(|p| format!("stage:{}", p.kind)).collect();
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
        let (name, kind, is_training) = (format!("{}-{}", i + 1, stage.name()), stage.name(), stage.is_training());
        planned.push(Planned { name, kind, is_training, step, teachers });
    }
    Ok(planned)
}

/// The last stage of that name (`2-prune`) or kind (`prune`), counted from zero.
pub(crate) fn find(planned: &[Planned], name: &str) -> Option<usize> {
    planned.iter().rposition(|p| p.name == name || p.kind == name)
}
