//! What can be refused before anything runs, beside stages and model.

use std::path::Path;

use sinter_data::{DataError, Dataset};
use sinter_estimate::{Quantity, Target};
use sinter_export::device;
use sinter_model::{ElementType, Model};
use sinter_quantize::Activations;
use sinter_train::Forecast;

use crate::config::{Export, PipelineConfig, StageConfig};
use crate::files::{ConfigError, Source};

/// A target whose facts hang together.
pub(crate) fn parse_target(source: &Source) -> Result<Target, ConfigError> {
    let target: Target = source.parse()?;
    match target.board.as_ref().map(|b| b.system()) {
        Some(Err(message)) => Err(source.error("board.software", message, None)),
        _ => Ok(target),
    }
}

/// Why data could not be opened, at its place in the data file.
pub(super) fn data_error(error: &DataError, source: &Source) -> ConfigError {
    let help = match error {
        DataError::Missing { hint: Some(hint), .. } => Some(hint.clone()),
        DataError::Missing { .. } => Some("paths are relative to the data file".into()),
        _ => None,
    };
    let message = match error {
        DataError::Missing { path, .. } => format!("data file {} is missing", path.display()),
        other => other.to_string(),
    };
    source.error("source", message, help)
}

/// A metric must fit the task and the labels that there are.
pub(super) fn metric(config: &PipelineConfig, data: &Dataset, source: &Source) -> Result<(), ConfigError> {
    let named = config.metric.iter().map(|m| (m, "metric".to_string()));
    let more = config.metrics.iter().enumerate().map(|(at, m)| (m, format!("metrics.{at}")));
    let unfit = named.chain(more).find(|(metric, _)| !metric.kind().fits(data.task, data.test.is_labelled()));
    let Some((metric, key)) = unfit else { return Ok(()) };
    let labelled = if data.test.is_labelled() { "with labels" } else { "without labels" };
    if let sinter_task::MetricChoice::Command(_) = metric {
        let help = "write `metric: { command: { run: [python3, my.py] } }`".to_string();
        return Err(source.error(&key, "the metric's command is empty", Some(help)));
    }
    let task = sinter_task::tasks::of(data.task).verb();
    let all = sinter_task::MetricChoice::all();
    let fitting: Vec<&str> = all.iter().filter(|m| m.kind().fits(data.task, data.test.is_labelled())).map(|m| m.name()).collect();
    let message = format!("`{}` can't be measured here: the data set `{}` {task}, {labelled}", metric.name(), data.name);
    Err(source.error(&key, message, Some(format!("these can: {}", fitting.join(", ")))))
}

/// A limit on what nobody can tell is no limit.
pub(super) fn budget(config: &PipelineConfig, target: &Target, source: &Source) -> Result<(), ConfigError> {
    let Some(budget) = &config.budget else { return Ok(()) };
    let published = |quantity| target.board.as_ref().is_some_and(|b| b.measured(quantity).is_some());
    let unknown = [
        ("latency", budget.latency.is_some() && target.vela.is_none() && !published(Quantity::Latency)),
        ("energy", budget.energy.is_some() && !published(Quantity::Energy)),
    ];
    match unknown.into_iter().find(|(_, unknown)| *unknown) {
        Some((what, _)) => {
            let help = format!("take a target with published {what} results, such as configs/targets/cortex-m4.yaml");
            Err(source.error(&format!("budget.{what}"), format!("target `{}` has no figures of {what}", target.name), Some(help)))
        }
        None => Ok(()),
    }
}

/// Formats of language models: whether the model is one, and whether they hold what the stages will leave.
fn language(config: &PipelineConfig, folder: &Path, forecast: &Forecast, source: &Source) -> Result<(), ConfigError> {
    let refuse = |key: &str, message: &str, help: &str| Err(source.error(key, message, Some(help.to_string())));
    for format in config.export.iter().filter(|e| e.is_for_language()) {
        let Some(model) = &config.model.huggingface else {
            let message =
                "`compressed-tensors` and `gguf` are for language models, and the model does not come from their folder";
            return refuse("export", message, "write `model: { huggingface: FOLDER }`, or leave them out of `export`");
        };
        if forecast.shrunk {
            let message =
                "`compressed-tensors` and `gguf` hold models of the size that config.json tells, and a stage removes some of it";
            return refuse("export", message, "leave them out of `export`: `onnx` and `packed` hold any size");
        }
        for (stage, at) in config.stages.iter().zip(0..) {
            if let StageConfig::Quantize(quantize) = &stage.config
                && quantize.activations != Some(Activations::None)
            {
                let message = "`compressed-tensors` and `gguf` hold weights alone, and this stage quantizes what goes between layers too: the files would not be what \
                               is measured";
                let help = "write `activations: none`, or leave them out of `export`";
                return refuse(&format!("stages.{at}.quantize"), message, help);
            }
        }
        let (model, from) = (&forecast.model, folder.join(model));
        let fits = match format {
            Export::Gguf => sinter_hub::gguf::fits(model, &from),
            _ => sinter_hub::compressed_tensors::fits(model, &from),
        };
        fits.map_err(|e| source.error("export", e.to_string(), None))?;
    }
    Ok(())
}

/// Operators that a format lacks, of the model as it came and as the stages will leave it.
pub(super) fn exports(
    config: &PipelineConfig,
    folder: &Path,
    model: &Model,
    forecast: &Forecast,
    source: &Source,
) -> Result<(), ConfigError> {
    let refuse = |format: &str, reason: String, help: &str| {
        Err(source.error("export", format!("this model has no {format}: {reason}"), Some(help.to_string())))
    };
    language(config, folder, forecast, source)?;
    if !config.export.iter().any(|e| e.is_for_devices()) {
        return Ok(());
    }
    for (stage, at) in config.stages.iter().zip(0..) {
        if let StageConfig::Quantize(quantize) = &stage.config
            && quantize.latency
        {
            let reason = "`latency` leaves in float what ONNX Runtime computes slower in integers, and files for devices are in integers throughout";
            let help = Some("drop `latency`, or leave `tflite` and `c` out of `export`".to_string());
            return Err(source.error(&format!("stages.{at}.quantize.latency"), reason, help));
        }
    }
    let leave = "leave `tflite` and `c` out of `export`, or replace the operator in the model";
    let inputs = &model.graph.inputs;
    if inputs.len() != 1 || inputs[0].element != ElementType::Float {
        let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
        let reason = format!("its inputs are {}, and files for devices have one of floats", names.join(", "));
        return refuse("TFLite file", reason, "leave `tflite` and `c` out of `export`");
    }
    if let Err(e) = device::lower(model) {
        return refuse("TFLite file", e.to_string(), leave);
    }
    let program = match device::lower(&forecast.model) {
        Ok(program) => program,
        Err(e) => return refuse("TFLite file once its stages are done", e.to_string(), leave),
    };
    if config.export.contains(&Export::C)
        && let Err(e) = program.check_integers()
    {
        let help = "C source is in integers from input to output: end the pipeline with `quantize`, or leave `c` out of `export`";
        return refuse("C source", e.to_string(), help);
    }
    Ok(())
}
