//! What a run leaves in `artifacts/`, and what real runtimes make of it.

mod agreement;
mod certificate;
mod devices;
mod language;
mod onnx;

use std::path::{Path, PathBuf};

use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_export::{QdqError, RuntimeError, device::LowerError};
use sinter_model::{Model, OpError, WriteError, write_whole};
use sinter_onnx::OnnxError;
use sinter_report::{ArtifactRow, CertificateTable, MeasuredRow, NpuRow, QualityRow, Samples};
use sinter_task::Examined;
use sinter_train::{Event, Events};

use crate::config::Export;
use crate::measure::Measured;
use crate::resolve::Plan;
use crate::snapshot::{Snapshot, SnapshotError};

/// Why a file could not be made or measured.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// The model could not be looked at.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It has no integer program; names the node.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// It has no ONNX file with quantizers; names the value.
    #[error(transparent)]
    Qdq(#[from] QdqError),
    /// It has no ONNX file.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A runtime that opened it failed later.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The runtime refuses it: then it is no artefact.
    #[error(
        "it does not run in ONNX Runtime: {reason}{}",
        .kept.as_ref().map_or_else(String::new, |k| format!(". The file is kept as {}; please report this", k.display()))
    )]
    Refused {
        /// What the runtime said.
        reason: String,
        /// Where the file is.
        kept: Option<PathBuf>,
    },
    /// Integer kernels would give nonsense for some input.
    #[error(
        "a sum of layer `{layer}` can leave 32 bits (channel {channel}: {sum}) for some input, and would wrap: leave the layer in float \
         (`layers: [{{ match: {layer}, weights: none, activations: none }}]`), or give its weight fewer bits"
    )]
    Wraps {
        /// The layer.
        layer: String,
        /// Its output channel.
        channel: usize,
        /// The sum.
        sum: i64,
    },
    /// It has no file of a language model; names the layer.
    #[error(transparent)]
    Hub(#[from] sinter_hub::HubError),
    /// The model did not run.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A tensor could not be compared.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The samples could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file or folder could not be used.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// A file that could not be made or measured.
#[derive(Debug, thiserror::Error)]
#[error("artefact {file}: {source}")]
pub struct Unwritten {
    /// Relative to the run's folder.
    pub file: &'static str,
    /// What went wrong.
    pub source: ArtefactError,
}

impl From<tch::TchError> for ArtefactError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}

impl ArtefactError {
    fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

/// What a run left.
#[derive(Debug, Default)]
pub(crate) struct Artefacts {
    pub files: Vec<ArtifactRow>,
    pub measured: Vec<MeasuredRow>,
    /// What a runtime made of both files, by every metric.
    pub quality: Vec<QualityRow>,
    /// What it made of each sample.
    pub samples: Samples,
    /// What holds for every input.
    pub certificate: Option<CertificateTable>,
    /// What Vela says of the TFLite file, for targets that it compiles for.
    pub npu: Option<NpuRow>,
}

/// What exporters share.
struct Writer<'a> {
    plan: &'a Plan,
    float: &'a Snapshot<'a>,
    result: &'a Snapshot<'a>,
    /// The model before its values were quantized, and the stage that did.
    before: &'a dyn Fn() -> Option<(String, Model)>,
    /// Of the float model and of the result.
    measured: (&'a Measured, &'a Measured),
    /// The run's folder.
    folder: &'a Path,
    /// Whether to execute what was generated from a model that came from outside.
    execute: bool,
    events: Events<'a>,
    /// What TensorFlow Lite Micro said, once it was asked.
    arena: Option<Option<Result<usize, String>>>,
    /// What the float file scored.
    examined: Option<Vec<Examined>>,
    done: Artefacts,
}

/// Writes the artefacts and measures them.
pub(crate) fn write(
    plan: &Plan,
    (float, result): (&Snapshot, &Snapshot),
    before: &dyn Fn() -> Option<(String, Model)>,
    measured: &[Measured],
    folder: &Path,
    execute: bool,
    events: Events,
) -> Result<Artefacts, Unwritten> {
    let measured = (&measured[plan.training_stages()], &measured[measured.len() - 1]);
    let mut writer = Writer {
        plan,
        float,
        result,
        before,
        measured,
        folder,
        execute,
        events,
        arena: None,
        examined: None,
        done: Artefacts::default(),
    };
    if plan.config.export.iter().any(|e| *e != Export::Packed) {
        writer.certify().map_err(|source| Unwritten { file: "artifacts/certificate.json", source })?;
    }
    for export in &plan.config.export {
        let (file, written) = match export {
            Export::Packed => ("artifacts/model.sinter", writer.packed()),
            Export::Onnx => ("artifacts/model.onnx", writer.onnx()),
            Export::Tflite => ("artifacts/model.tflite", writer.tflite()),
            Export::C => ("artifacts/c", writer.c_source()),
            Export::CompressedTensors => ("artifacts/compressed-tensors", writer.compressed_tensors()),
            Export::Gguf => ("artifacts/model.gguf", writer.gguf()),
        };
        written.map_err(|source| Unwritten { file, source })?;
    }
    // Sources come last in the table, whatever the order in which the user named them.
    writer.done.files.sort_by_key(|row| row.path.ends_with("/c"));
    Ok(writer.done)
}

impl Writer<'_> {
    fn place(&self, name: &str) -> PathBuf {
        self.folder.join("artifacts").join(name)
    }

    /// Tells of a file that stands.
    fn add(&mut self, name: &str, what: &str) -> Result<(), ArtefactError> {
        let path = self.place(name);
        let bytes = std::fs::metadata(&path).map_err(ArtefactError::io(&path))?.len();
        (self.events)(Event::Artifact { path, bytes });
        let row = ArtifactRow { path: format!("artifacts/{name}"), what: what.to_string(), bytes, ..ArtifactRow::default() };
        self.done.files.push(row);
        Ok(())
    }

    fn packed(&mut self) -> Result<(), ArtefactError> {
        write_whole(&self.place("model.sinter"), &self.result.packed()?.bytes)?;
        self.add("model.sinter", "The packed file: the fewest bytes; `sinter unpack` turns it into ONNX")
    }
}
