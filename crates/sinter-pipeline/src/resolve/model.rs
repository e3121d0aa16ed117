//! The model that a pipeline names, and whether it goes with the data.

use std::path::Path;

use sinter_data::{Dataset, Task};
use sinter_model::{Dim, Graph, Model};
use sinter_onnx::Loaded;

use crate::config::{ModelConfig, PipelineConfig};
use crate::files::{ConfigError, Source};

/// Builds or loads the model.
pub(super) fn load(
    config: &PipelineConfig,
    folder: &Path,
    (data, tokens): (&Dataset, Option<usize>),
    source: &Source,
) -> Result<Loaded, ConfigError> {
    let ModelConfig { zoo, onnx, huggingface, classes, dims, constants, state, dequantize } = &config.model;
    if onnx.is_none() {
        let given = [
            ("dims", dims.is_empty()),
            ("constants", constants.is_empty()),
            ("state", state.is_empty()),
            ("dequantize", !dequantize),
        ];
        if let Some((key, _)) = given.into_iter().find(|(_, empty)| !empty) {
            return Err(source.error(&format!("model.{key}"), format!("`{key}` goes with `onnx`"), None));
        }
    }
    if zoo.is_none() && classes.is_some() {
        return Err(source.error("model.classes", "`classes` goes with `zoo`", None));
    }
    match (zoo, onnx, huggingface) {
        (Some(zoo), None, None) => {
            let classes = match (classes, data.task, data.classes.len()) {
                (Some(classes), ..) => *classes,
                (None, Task::Classify(_), n) if n > 0 => n as i64,
                _ => zoo.default_classes(),
            };
            let built = zoo.build(&data.shape(), classes, config.seed).map_err(|e| {
                let help = format!("data set `{}` gives samples of shape {:?}", data.name, data.shape());
                source.error("model.zoo", e.to_string(), Some(help))
            });
            Ok(Loaded { model: built?, notes: vec![] })
        }
        (None, None, Some(huggingface)) => {
            let Some(tokens) = tokens else {
                let help = "write `source: { text: { path: corpus.txt } }` and `task: language` in the data file".to_string();
                let message = format!("a language model takes text, and the data set `{}` gives none", data.name);
                return Err(source.error("model.huggingface", message, Some(help)));
            };
            let at = folder.join(huggingface);
            let read = sinter_hub::read(&at, tokens as i64).map_err(|e| {
                let help = matches!(e, sinter_hub::HubError::Read { .. }).then(|| {
                    "`huggingface` is a folder with config.json and safetensors, relative to the pipeline file".to_string()
                });
                source.error("model.huggingface", e.to_string(), help)
            });
            let (model, notes) = read?;
            Ok(Loaded { model, notes })
        }
        (None, Some(onnx), None) => {
            let constants = constants.iter().map(|(name, numbers)| (name.clone(), numbers.list())).collect();
            let options = sinter_onnx::Options {
                dims: dims.clone(),
                shapes: data.shapes(),
                constants,
                state: state.clone(),
                ..Default::default()
            };
            let path = folder.join(onnx);
            let loaded = sinter_onnx::read(&path, &options).map_err(|e| {
                let named = |input: &String| data.shapes().keys().flatten().any(|name| name == input);
                let message = match &e {
                    sinter_onnx::OnnxError::FreeDim { name, .. } if data.names_inputs() && !named(name) => {
                        return not_given(format!("the data does not give the model's input `{name}`"), source);
                    }
                    sinter_onnx::OnnxError::FreeDim { needed, .. } if !data.names_inputs() && needed.len() > 1 => {
                        let names: Vec<&str> = needed.iter().map(String::as_str).collect();
                        return not_given(Dataset::one_array(&names), source);
                    }
                    sinter_onnx::OnnxError::Read { .. } => e.to_string(),
                    other => format!("{}: {other}", path.display()),
                };
                let at = match &e {
                    sinter_onnx::OnnxError::Tensor { name, .. } if config.model.constants.contains_key(name) => "model.constants",
                    sinter_onnx::OnnxError::Tensor { name, .. } if state.iter().any(|(i, o)| i == name || o == name) => {
                        "model.state"
                    }
                    _ => "model.onnx",
                };
                let help = matches!(e, sinter_onnx::OnnxError::Read { .. })
                    .then(|| "`onnx` is relative to the pipeline file".to_string());
                source.error(at, message, help)
            });
            in_float(loaded?, *dequantize, !config.stages.is_empty(), source)
        }
        _ => {
            let help = Some("write `model: { zoo: lenet5 }`, `model: { onnx: PATH }` or `model: { huggingface: FOLDER }`".into());
            Err(source.error("model", "the model needs exactly one of `zoo`, `onnx` and `huggingface`", help))
        }
    }
}

/// A model that stages can compress. Errors on one that is quantized already, unless it shall be dequantized or there is no stage.
fn in_float(loaded: Loaded, dequantize: bool, compressed: bool, source: &Source) -> Result<Loaded, ConfigError> {
    let Loaded { model, mut notes } = loaded;
    let quantized = model.graph.nodes.iter().find(|n| n.op.boundary().is_some()).map(|n| format!("{} `{}`", n.kind(), n.name));
    match (quantized, dequantize) {
        (Some(node), false) if compressed => {
            let help = "take the float model; or write `model: { onnx: PATH, dequantize: true }` to go on with its integers times their scales; `sinter inspect` \
                        and `sinter certify` read it as it is";
            Err(source.error("model.onnx", format!("the model is already quantized: it holds {node}"), Some(help.into())))
        }
        (Some(_), true) => {
            let model = sinter_certify::dequantize(&model).map_err(|e| source.error("model.dequantize", e.to_string(), None))?;
            notes.push("the model came quantized: its weights are integers times their scales now, and what rounding had lost stays lost".into());
            Ok(Loaded { model, notes })
        }
        (None, true) => {
            let help = Some("leave `dequantize` out".into());
            Err(source.error(
                "model.dequantize",
                "the model is not quantized: it has no QuantizeLinear or DequantizeLinear",
                help,
            ))
        }
        _ => Ok(Loaded { model, notes }),
    }
}

fn not_given(message: String, source: &Source) -> ConfigError {
    let help = "name an array for each input in the data file: `source: { numpy: { path: x.npz, inputs: { NAME: ARRAY } } }`; one that is always \
                the same goes under `model` as `constants: { NAME: NUMBER }`, one that an output feeds as `state: { INPUT: OUTPUT }`";
    source.error("model", message, Some(help.into()))
}

/// The model must take what the data gives: each input its array, of its shape. Brings the arrays into the order of the inputs.
pub(super) fn check_input(model: &Model, data: &mut Dataset, source: &Source) -> Result<(), ConfigError> {
    let graph = &model.graph;
    let inputs: Vec<_> = graph.inputs.iter().map(|i| (i.name.clone(), i.element)).collect();
    data.bind(&inputs, &graph.state.keys().cloned().collect()).map_err(|message| not_given(message, source))?;
    let single = first_sample(graph, data).is_some_and(|shape| sinter_exec::one_by_one(graph, &shape));
    // A sequence of steps, where the model has a state.
    let steps = usize::from(graph.takes_sequences());
    for input in graph.data_inputs() {
        let Some(shape) = data.shape_of(&input.name) else { continue };
        let same = |dims: &[Dim], lengths: &[i64]| {
            dims.len() == lengths.len() && dims.iter().zip(lengths).all(|(dim, n)| matches!(dim, Dim::Fixed(m) if m == n))
        };
        let (behind, dims) = (shape.get(steps..).unwrap_or_default(), &input.shape[..]);
        let whole = single && same(dims, behind);
        let one = matches!(dims.first(), Some(Dim::Fixed(1)) if single);
        let fits = !dims.is_empty() && (input.is_batched() || one) && same(&dims[1..], behind);
        if shape.len() >= steps && (whole || fits) {
            continue;
        }
        let help = match (steps, input.is_batched() || one) {
            (1, _) => {
                "a model with states takes sequences: the first axis of a sample is that of its steps, the others are the input's"
            }
            (_, true) => "use data of that shape, or resize it in the data file",
            (_, false) => {
                "export the model with a free batch dimension, or give samples of the whole shape, to be run one by one"
            }
        };
        let message = format!(
            "the model's input `{}` is {}, the data set `{}` gives samples of shape {shape:?}",
            input.name,
            input.shape_text(),
            data.name
        );
        return Err(source.error("model", message, Some(help.into())));
    }
    if single {
        data.at_once(1);
    }
    Ok(())
}

/// The shape of one sample of what goes into the first input that is no state.
fn first_sample(graph: &Graph, data: &Dataset) -> Option<Vec<i64>> {
    data.shape_of(&graph.data_inputs().next()?.name)
}

/// What the largest value of a model may take in a batch that nothing is trained on.
const LARGEST: i64 = 256 << 20;

/// The model's first output must have what the task wants. Sees to it that batches fit into memory.
pub(super) fn check_output(model: &Model, data: &mut Dataset, source: &Source) -> Result<(), ConfigError> {
    let shapes = sinter_exec::shapes(model).map_err(|e| source.error("model", e.to_string(), None))?;
    let values = shapes.iter().filter(|(name, _)| !model.weights.contains_key(*name));
    let largest = values.map(|(_, s)| s.iter().product::<i64>()).max().unwrap_or(1).max(1) * 4;
    data.at_once((LARGEST / largest).max(1) as usize);
    let name = model.graph.outputs.first().map(|o| o.name.clone()).unwrap_or_default();
    let mut output = shapes.get(&name).cloned().unwrap_or_default();
    let graph = &model.graph;
    let sample = first_sample(graph, data).unwrap_or_default();
    if sinter_exec::is_bare(graph, &sample) {
        // A model without an axis of samples: it gets one.
        output.insert(0, 1);
    }
    if graph.takes_sequences() {
        // One for each step of a sample.
        output.insert(1.min(output.len()), sample.first().copied().unwrap_or(1));
    }
    match sinter_task::tasks::of(data.task).misfit(&output, data) {
        Some(wanted) => {
            let message =
                format!("the model's output `{name}` is {output:?} for one sample, the data set `{}` {wanted}", data.name);
            let help =
                format!("the data file says `task: {}`; there are {}", data.task.name(), sinter_data::Task::NAMES.join(", "));
            Err(source.error("model", message, Some(help)))
        }
        None => Ok(()),
    }
}
