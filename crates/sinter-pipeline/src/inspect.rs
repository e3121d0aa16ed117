//! A model file at a glance: its layers, and what it costs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sinter_estimate::{GENERIC, Interval, Target};
use sinter_export::{PackError, unpack};
use sinter_model::{Boundary, Bytes, Joules, Macs, Model, ModelError, OpError, Seconds};
use sinter_onnx::{OnnxError, Options};
use sinter_report::shorten;

use crate::files::{ConfigError, Source};
use crate::resolve::parse_target;
use crate::snapshot::{Snapshot, SnapshotError};

/// Of a name in a table: exporters join the names of all that they fused.
const MOST_LETTERS: usize = 40;

/// Why a model could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file could not be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A folder is no model.
    #[error("{path} is a folder: name a model in it, such as {}", .path.join("artifacts/model.sinter").display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
    },
    /// It is no ONNX file that can be read.
    #[error("{path}: {source}")]
    Onnx {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: OnnxError,
    },
    /// It is no packed file that can be read.
    #[error("{path}: {source}")]
    Packed {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: PackError,
    },
    /// It could not be looked at.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It lacks something.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A weight could not be described.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// What a model is and costs; as JSON or, by its `Display`, as tables.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its name.
    pub model: String,
    /// Names and shapes.
    pub inputs: Vec<String>,
    /// Names and shapes of what goes out.
    pub outputs: Vec<String>,
    /// Stored numbers that are part of the model, not of its arithmetic.
    pub parameters: u64,
    /// Multiply-accumulates of one inference.
    pub macs: u64,
    /// The same by operator.
    pub macs_by_operator: Vec<(String, u64)>,
    /// Four bytes a parameter.
    pub float32_bytes: u64,
    /// As a packed file.
    pub packed_bytes: u64,
    /// Weights as a device's kernels read them.
    pub flash_bytes: u64,
    /// Activations, planned by lifetime.
    pub ram_bytes: u64,
    /// What the estimates are for.
    pub target: String,
    /// Estimates of one inference on the target.
    pub energy_floor_joules: f64,
    /// Joules of one inference, where the target has a board.
    pub energy_joules: Option<Interval>,
    /// Seconds of one inference, where the target has a board.
    pub latency_seconds: Option<Interval>,
    /// Whether flash and RAM suffice; `None` where the target does not say what it has.
    pub fits: Option<bool>,
    /// What a reader of the figures should know.
    pub note: Option<String>,
    /// In graph order.
    pub layers: Vec<InspectedLayer>,
    /// Node by node.
    pub memory: Vec<AliveAt>,
}

/// A layer with a weight.
#[derive(Debug, Clone, Serialize)]
pub struct InspectedLayer {
    pub layer: String,
    pub operator: String,
    pub shape: String,
    pub parameters: u64,
    pub macs: u64,
    pub encoding: String,
    pub zeros: f64,
    pub packed_bytes: f64,
}

/// The memory of activations at one node.
#[derive(Debug, Clone, Serialize)]
pub struct AliveAt {
    pub node: String,
    pub operator: String,
    pub bytes: u64,
}

/// Reads a target file.
pub fn read_target(path: &Path) -> Result<Target, ConfigError> {
    parse_target(&Source::read(path)?)
}

/// Looks into an ONNX file, whose free dimensions get these lengths, or a packed one. Without a target the estimates are for none in particular.
pub fn inspect(path: &Path, options: &Options, target: Option<&Target>) -> Result<Inspection, InspectError> {
    let model = load(path, options)?;
    let target = target.unwrap_or(&GENERIC);
    let snapshot = Snapshot::new(&model);
    let (packed, footprint, memory) = (snapshot.packed()?, snapshot.footprint()?, snapshot.memory()?);
    let costs = sinter_estimate::costs(footprint, target);
    let mut layers = Vec::new();
    for layer in model.layers_and_tables() {
        let weight = model.weight(&layer.weight)?;
        layers.push(InspectedLayer {
            operator: model.graph.nodes[layer.node].kind().to_string(),
            shape: weight.size().iter().map(i64::to_string).collect::<Vec<_>>().join("×"),
            parameters: weight.numel() as u64,
            macs: footprint.layers[layer.node].macs,
            encoding: weight.describe()?,
            zeros: weight.sparsity()?,
            packed_bytes: packed.tensors.get(&layer.weight).copied().unwrap_or(0.0),
            layer: layer.name,
        });
    }
    let alive = |(node, &bytes): (&sinter_model::Node, &u64)| AliveAt {
        node: node.name.clone(),
        operator: node.kind().to_string(),
        bytes,
    };
    let infos = |all: &[sinter_model::ValueInfo]| all.iter().map(|v| format!("{} {}", v.name, v.shape_text())).collect();
    let limits = target.flash.zip(target.ram);
    Ok(Inspection {
        model: model.name.clone(),
        inputs: infos(&model.graph.inputs),
        outputs: infos(&model.graph.outputs),
        parameters: model.parameters() as u64,
        macs: footprint.macs().0,
        macs_by_operator: footprint.macs_by_kind(),
        float32_bytes: model.parameters() as u64 * 4,
        packed_bytes: packed.bytes.len() as u64,
        flash_bytes: memory.flash,
        ram_bytes: memory.ram,
        target: target.name.clone(),
        energy_floor_joules: costs.floor,
        energy_joules: costs.energy,
        latency_seconds: costs.latency,
        fits: limits.map(|(flash, ram)| memory.flash <= flash.0 && memory.ram <= ram.0),
        note: stores_integers(&model).then(|| {
            "the file stores integers that it dequantizes itself: they count as constants here, not as parameters; inspect the packed file of \
             the same run for its layers"
                .to_string()
        }),
        layers,
        memory: model.graph.nodes.iter().zip(&memory.profile).map(alive).collect(),
    })
}

/// Whether weights are stored behind DequantizeLinear.
fn stores_integers(model: &Model) -> bool {
    let stored = |name: &String| model.weights.contains_key(name);
    model.graph.nodes.iter().any(|n| n.op.boundary() == Some(Boundary::Dequantize) && n.inputs.first().is_some_and(stored))
}

fn load(path: &Path, options: &Options) -> Result<Model, InspectError> {
    let at = || path.to_path_buf();
    if path.is_dir() {
        return Err(InspectError::Folder { path: at() });
    }
    if path.extension().is_some_and(|e| e == "sinter") {
        let bytes = std::fs::read(path).map_err(|source| InspectError::Read { path: at(), source })?;
        return unpack(&bytes).map_err(|source| InspectError::Packed { path: at(), source });
    }
    sinter_onnx::load(path, options).map_err(|source| match source {
        OnnxError::Read { path, source } => InspectError::Read { path, source },
        source => InspectError::Onnx { path: at(), source },
    })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} → {}", self.model, self.inputs.join(", "), self.outputs.join(", "))?;
        writeln!(f, "{} parameters, {} multiply-accumulates", self.parameters, Macs(self.macs))?;
        let kinds: Vec<String> = self.macs_by_operator.iter().map(|(kind, macs)| format!("{kind} {}", Macs(*macs))).collect();
        writeln!(f, "by operator: {}", kinds.join(", "))?;
        writeln!(
            f,
            "weights: {} as float32, {} packed, {} on a device; activations: {} (planned by lifetime)",
            Bytes(self.float32_bytes),
            Bytes(self.packed_bytes),
            Bytes(self.flash_bytes),
            Bytes(self.ram_bytes)
        )?;
        write!(f, "on {}, estimated: energy floor {}", self.target, Joules(self.energy_floor_joules))?;
        if let Some(e) = self.energy_joules {
            write!(f, ", energy {} ({} to {})", Joules(e.middle), Joules(e.low), Joules(e.high))?;
        }
        if let Some(t) = self.latency_seconds {
            write!(f, ", latency {} ({} to {})", Seconds(t.middle), Seconds(t.low), Seconds(t.high))?;
        }
        match self.fits {
            Some(true) => writeln!(f, "; it fits")?,
            Some(false) => writeln!(f, "; it does not fit")?,
            None => writeln!(f)?,
        }
        if let Some(note) = &self.note {
            writeln!(f, "note: {note}")?;
        }
        let heads = ["layer", "operator", "weight", "parameters", "MACs", "encoding", "zeros", "packed"];
        let rows = self.layers.iter().map(|l| {
            let (zeros, packed) = (format!("{:.1} %", l.zeros * 100.0), Bytes(l.packed_bytes.round() as u64).to_string());
            let (parameters, macs) = (l.parameters.to_string(), Macs(l.macs).to_string());
            [
                shorten(&l.layer, MOST_LETTERS),
                l.operator.clone(),
                l.shape.clone(),
                parameters,
                macs,
                l.encoding.clone(),
                zeros,
                packed,
            ]
        });
        table(f, &heads, rows.collect())?;
        let peak = self.memory.iter().map(|a| a.bytes).max().unwrap_or(0).max(1);
        let rows = self.memory.iter().map(|a| {
            let bar = "█".repeat((a.bytes * 40 / peak) as usize);
            [shorten(&a.node, MOST_LETTERS), a.operator.clone(), Bytes(a.bytes).to_string(), bar]
        });
        table(f, &["node", "operator", "alive", ""], rows.collect())
    }
}

/// Columns side by side, each as wide as its widest cell.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, heads: &[&str; N], rows: Vec<[String; N]>) -> fmt::Result {
    let heads = heads.map(str::to_string);
    let wide = |c: usize| std::iter::once(&heads).chain(&rows).map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(wide);
    writeln!(f)?;
    for row in std::iter::once(&heads).chain(&rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
