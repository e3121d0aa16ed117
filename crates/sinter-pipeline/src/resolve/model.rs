//! The model that a pipeline names, and whether it goes with the data.

use std::path::Path;

use sinter_data::{Dataset, Task};
use sinter_model::{Dim, Model};
use sinter_onnx::Loaded;

use crate::config::{ModelConfig, PipelineConfig};
use crate::files::{ConfigError, Source};

/// Builds or loads the model.
pub(super) fn load(config: &PipelineConfig, folder: &Path, data: &Dataset, source: &Source) -> Result<Loaded, ConfigError> {
    let ModelConfig { zoo, onnx, classes, dims } = &config.model;
    match (zoo, onnx) {
        (Some(zoo), None) => {
            if !dims.is_empty() {
                return Err(source.error("model.dims", "`dims` goes with `onnx`", None));
            }
            tch::manual_seed(config.seed as i64);
            let classes = match (classes, data.task, data.classes.len()) {
                (Some(classes), ..) => *classes,
                (None, Task::Classify, n) if n > 0 => n as i64,
                _ => zoo.default_classes(),
            };
            let built = zoo.build(&data.shape(), classes).map_err(|e| {
                let help = format!("data set `{}` gives samples of shape {:?}", data.name, data.shape());
                source.error("model.zoo", e.to_string(), Some(help))
            });
            Ok(Loaded { model: built?, notes: vec![] })
        }
        (None, Some(onnx)) => {
            if classes.is_some() {
                return Err(source.error("model.classes", "`classes` goes with `zoo`", None));
            }
            let options = sinter_onnx::Options { dims: dims.clone(), shapes: data.shapes(), ..Default::default() };
            let path = folder.join(onnx);
            sinter_onnx::read(&path, &options).map_err(|e| {
                let named = |input: &String| data.shapes().keys().flatten().any(|name| name == input);
                let message = match &e {
                    sinter_onnx::OnnxError::FreeDim { name, .. } if data.names_inputs() && !named(name) => {
                        return not_given(format!("the data does not give the model's input `{name}`"), source);
                    }
                    sinter_onnx::OnnxError::Read { .. } => e.to_string(),
                    other => format!("{}: {other}", path.display()),
                };
                let help = matches!(e, sinter_onnx::OnnxError::Read { .. })
                    .then(|| "`onnx` is relative to the pipeline file".to_string());
                source.error("model.onnx", message, help)
            })
        }
        _ => {
            let help = Some("write `model: { zoo: lenet5 }` or `model: { onnx: PATH }`".into());
            Err(source.error("model", "the model needs exactly one of `zoo` and `onnx`", help))
        }
    }
}

fn not_given(message: String, source: &Source) -> ConfigError {
    let help = "name an array for each input in the data file: `source: { numpy: { path: x.npz, inputs: { NAME: ARRAY } } }`";
    source.error("model", message, Some(help.into()))
}

/// The model must take what the data gives: each input its array, of its shape. Brings the arrays into the order of the inputs.
pub(super) fn check_input(model: &Model, data: &mut Dataset, source: &Source) -> Result<(), ConfigError> {
    let inputs: Vec<_> = model.graph.inputs.iter().map(|i| (i.name.clone(), i.element)).collect();
    data.bind(&inputs).map_err(|message| not_given(message, source))?;
    let shapes = data.shapes();
    for input in &model.graph.inputs {
        let Some(shape) = shapes.get(&Some(input.name.clone())).or_else(|| shapes.get(&None)) else { continue };
        let fits = input.shape.len() == shape.len() + 1
            && input.shape[1..].iter().zip(shape).all(|(dim, n)| matches!(dim, Dim::Fixed(m) if m == n));
        if fits && input.is_batched() {
            continue;
        }
        let help = match input.is_batched() {
            true => "use data of that shape, or resize it in the data file",
            false => "export the model with a free batch dimension",
        };
        let message = format!(
            "the model's input `{}` is {}, the data set `{}` gives samples of shape {shape:?}",
            input.name,
            input.shape_text(),
            data.name
        );
        return Err(source.error("model", message, Some(help.into())));
    }
    Ok(())
}

/// A classifier must know every class of the data; a reconstruction must have the input's size.
pub(super) fn check_output(model: &Model, data: &Dataset, source: &Source) -> Result<(), ConfigError> {
    let shapes = sinter_exec::shapes(model).map_err(|e| source.error("model", e.to_string(), None))?;
    let output = model.graph.outputs.first().and_then(|o| shapes.get(&o.name)).cloned().unwrap_or_default();
    let per_sample: i64 = output.iter().skip(1).product();
    let (wanted, what) = match data.task {
        Task::Reconstruct => (data.shape().iter().product::<i64>(), "values to reconstruct"),
        Task::Classify => (data.classes.len() as i64, "classes"),
    };
    let wrong = match data.task {
        Task::Reconstruct => per_sample != wanted,
        Task::Classify => data.test.is_labelled() && (per_sample < wanted || output.len() != 2),
    };
    if wrong {
        let message =
            format!("the model's output is {output:?} for one sample, the data set `{}` has {wanted} {what}", data.name);
        return Err(source.error("model", message, None));
    }
    Ok(())
}
