//! The model that a first pipeline is for: where it comes from, and what goes into it.

use std::path::{Path, PathBuf};

use sinter_model::zoo::ZooModel;
use sinter_model::{Dim, ElementType, ValueInfo};
use sinter_onnx::{Interface, interface};

use super::InitError;
use super::text::{escaped, quoted, relative};

/// Samples a second that recordings have where a model asks for them.
const RATES: [i64; 2] = [16_000, 8_000];

/// Where a model comes from.
#[derive(Debug)]
pub(super) enum Origin {
    Zoo(ZooModel),
    Onnx(PathBuf),
    Folder(PathBuf),
}

impl Origin {
    pub fn of(text: &str) -> Result<Self, InitError> {
        let path = Path::new(text);
        if let Some(zoo) = ZooModel::ALL.into_iter().find(|zoo| zoo.name() == text) {
            return Ok(Self::Zoo(zoo));
        }
        if path.is_dir() && path.join("config.json").is_file() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        if path.is_file() {
            return Ok(Self::Onnx(path.to_path_buf()));
        }
        let zoo: Vec<&str> = ZooModel::ALL.iter().map(|z| z.name()).collect();
        let help = format!(
            "give an ONNX file, a folder with config.json and safetensors, or a built-in architecture: {}",
            zoo.join(", ")
        );
        Err(InitError::new(format!("there is no model {text}"), help))
    }

    /// As YAML, with keys that stand beside the file.
    pub fn yaml(&self, folder: Option<&Path>, beside: &str) -> String {
        match self {
            Self::Zoo(zoo) => format!("{{ zoo: {} }}", zoo.name()),
            Self::Onnx(path) => format!("{{ onnx: {}{beside} }}", escaped(&relative(path, folder))),
            Self::Folder(path) => format!("{{ huggingface: {} }}", escaped(&relative(path, folder))),
        }
    }

    /// Of a language model, the tokens that it takes at once.
    pub fn context(&self) -> Option<u64> {
        let Self::Folder(folder) = self else { return None };
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()?;
        config["max_position_embeddings"].as_u64()
    }

    /// What goes in and comes out, as far as it is known without data.
    pub fn interface(&self) -> Result<Interface, InitError> {
        match self {
            Self::Folder(_) => Ok(Interface::default()),
            Self::Onnx(path) => interface(path).map_err(|e| {
                InitError::new(
                    format!("{}: {e}", path.display()),
                    "give an ONNX file, as torch.onnx.export or another converter writes it",
                )
            }),
            Self::Zoo(zoo) => {
                let model = zoo.build(&zoo.default_input(), zoo.default_classes(), 0);
                let graph = model.map_err(|e| InitError::new(e.to_string(), "choose another architecture"))?.graph;
                Ok(Interface { inputs: graph.inputs, outputs: graph.outputs })
            }
        }
    }
}

/// Inputs that no array is there for: the state of the model where an output is of its shape, else a number that is always the same.
#[derive(Debug, Default)]
pub(super) struct Apart {
    states: Vec<(String, String)>,
    numbers: Vec<String>,
}

impl Apart {
    /// Of a model, of whose inputs `given` have arrays.
    pub fn of(interface: &Interface, given: &dyn Fn(&str) -> bool) -> Self {
        let mut apart = Self::default();
        if interface.inputs.len() < 2 {
            return apart;
        }
        // The first output answers.
        let mut outputs: Vec<&ValueInfo> = interface.outputs.iter().skip(1).collect();
        for input in interface.inputs.iter().filter(|i| !given(&i.name)) {
            let single = input.shape.iter().all(|d| matches!(d, Dim::Fixed(1)));
            if let Some(at) = outputs.iter().position(|output| alike(input, output)) {
                apart.states.push((input.name.clone(), outputs.remove(at).name.clone()));
            } else if single && input.element != ElementType::Bool {
                apart.numbers.push(input.name.clone());
            }
        }
        apart
    }

    pub fn holds(&self, input: &str) -> bool {
        self.states.iter().any(|(state, _)| state == input) || self.numbers.iter().any(|number| number == input)
    }

    /// Keys beside `onnx`, in every way that may be meant.
    pub fn ways(&self) -> Vec<String> {
        let states: Vec<String> = self.states.iter().map(|(i, o)| format!("{}: {}", quoted(i), quoted(o))).collect();
        let states = if states.is_empty() { String::new() } else { format!(", state: {{ {} }}", states.join(", ")) };
        let rate = |name: &String| name.contains("sr") || name.contains("rate");
        let all = if self.numbers.iter().any(rate) { RATES.to_vec() } else { vec![1] };
        let ways = all.into_iter().map(|value| {
            let numbers = self.numbers.iter().map(|name| format!("{}: {}", quoted(name), if rate(name) { value } else { 1 }));
            let numbers: Vec<String> = numbers.collect();
            let numbers = if numbers.is_empty() { String::new() } else { format!(", constants: {{ {} }}", numbers.join(", ")) };
            numbers + &states
        });
        ways.collect()
    }
}

/// Whether an output can be an input's value at the next step. A converter may say less of an output than of an input.
fn alike(input: &ValueInfo, output: &ValueInfo) -> bool {
    let same = |(a, b): (&Dim, &Dim)| match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) => a == b,
        _ => true,
    };
    input.element == output.element
        && input.element == ElementType::Float
        && input.shape.len() == output.shape.len()
        && input.shape.len() > 1
        && input.shape.iter().zip(&output.shape).all(same)
}
