//! The run: stage after stage, from the last checkpoint on.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_export::{PackError, QdqError, RuntimeError, device::LowerError};
use sinter_model::{Model, ModelError, OpError, WriteError, write_whole};
use sinter_onnx::OnnxError;
use sinter_report::{CurveRow, ReportError, RunRecord, SensitivityRow, write_report};
use sinter_train::{Context, Event, Events, Probe, StageError, TeacherRef};

use crate::artifacts;
use crate::budget;
use crate::checkpoint::CheckpointError;
use crate::key::Key;
use crate::measure::{Measured, estimated, measure};
use crate::plan::Plan;
use crate::record;
use crate::store::{StageMemory, Store};

/// Why a run did not end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("stage {stage}: {source}")]
    Stage { stage: String, source: StageError },
    #[error("stage {stage} broke what an earlier stage had set: {source}")]
    Invariant { stage: String, source: ModelError },
    #[error("the packed file does not give back weight `{0}` bit for bit; please report this")]
    PackMismatch(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Measure(#[from] StageError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Op(#[from] OpError),
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Qdq(#[from] QdqError),
    #[error("this model has no TFLite file: {0}")]
    Device(#[from] LowerError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Where and how to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The folder of all runs.
    pub out: PathBuf,
    /// Do every stage anew, whatever the cache holds.
    pub fresh: bool,
    /// Compile and run what was generated from a model that came from outside, to measure it.
    pub measure: bool,
}

/// What a run left.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    pub folder: PathBuf,
    pub report: PathBuf,
    pub record: RunRecord,
}

impl Plan {
    /// The run's folder within `out`. Its name is the hash of all that the run depends on: the same run has the same folder.
    pub fn run_folder(&self, out: &Path) -> PathBuf {
        let mut key = Key::new();
        key.config("stages", &self.keys);
        key.config("target", &self.target);
        key.config("export", &self.config.export);
        out.join(&self.config.name).join(&key.name()[..12])
    }

    /// Does the stages that the cache does not hold, leaves the artefacts, and writes the report.
    pub fn run(&self, options: &RunOptions, events: Events) -> Result<RunOutcome, RunError> {
        let folder = self.run_folder(&options.out);
        let stages: Vec<String> = (1..=self.config.stages.len()).map(|i| self.stage_name(i)).collect();
        events(Event::RunStarted { pipeline: self.config.name.clone(), folder: folder.clone(), stages });
        let store = Store { cache: options.out.join(".cache"), run: folder.join("checkpoints"), fresh: options.fresh };
        let mut model = self.model.copy();
        let float_index = self.training_stages();
        let mut float: Option<Model> = (float_index == 0).then(|| model.copy());
        let mut told: Vec<Measured> = Vec::new();
        for index in 0..=self.config.stages.len() {
            let (next, measured) = self.step(index, model, float.as_ref(), &store, events)?;
            model = next;
            if index == float_index {
                float = Some(model.copy());
            }
            told.push(measured);
        }
        let float = match float {
            Some(float) => float,
            None => self.model.copy(),
        };
        let last = &told[told.len() - 1];
        let left = artifacts::leave(self, &model, last, &float, &told[float_index], &folder, options.measure, events)?;
        let mut record = record::of_run(self, &told, (&float, &model), &folder)?;
        record.artifacts = left.files;
        record.measured = left.measured;
        record.npu = left.npu;
        record.budget = budget::verdicts(self, &model, &record)?;
        for row in &record.budget {
            events(Event::Verdict { text: budget::line(row), met: row.met });
        }
        // What the stages took when they were done, not what reading them from the cache took.
        record.seconds = record.stages.iter().map(|s| s.seconds).sum();
        record.summary = record::summary(&record) + &budget::fit(&self.target, &record);
        write_report(&record, &folder)?;
        let json = serde_json::to_vec_pretty(&record).unwrap_or_default();
        write_whole(&folder.join("run.json"), &json)?;
        let report = folder.join("report.html");
        events(Event::RunFinished {
            folder: folder.clone(),
            report: report.clone(),
            summary: record.summary.clone(),
            seconds: record.seconds,
        });
        Ok(RunOutcome { folder, report, record })
    }

    /// One stage: from the cache, or done, checked, measured and stored. Index 0 measures the model as it came.
    fn step(
        &self,
        index: usize,
        model: Model,
        float: Option<&Model>,
        store: &Store,
        events: Events,
    ) -> Result<(Model, Measured), RunError> {
        let stage_name = self.stage_name(index);
        let stages = self.config.stages.len();
        let key = &self.keys[index];
        if let Some((model, mut measured)) = store.load(key) {
            store.link(key, &stage_name)?;
            if index > 0 {
                events(Event::StageCached { stage: stage_name, index, stages });
            }
            // Estimates depend on the target, which is no part of the key.
            measured.row = estimated(measured.row, &model, &self.target)?;
            measured.row.cached = true;
            return Ok((model, measured));
        }
        let started = Instant::now();
        let (curves, notes) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let (sensitivity, seen) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let model = if index == 0 {
            model
        } else {
            events(Event::StageStarted { stage: stage_name.clone(), index, stages });
            let listen = |event: Event| {
                match &event {
                    Event::Epoch { epoch, loss, value, seconds, .. } => {
                        let stage = stage_name.clone();
                        curves.borrow_mut().push(CurveRow {
                            stage,
                            epoch: *epoch,
                            loss: *loss,
                            value: *value,
                            seconds: *seconds,
                        });
                    }
                    Event::Sensitivity { layer, probe, at, lost } => {
                        let (stage, layer) = (stage_name.clone(), layer.clone());
                        sensitivity.borrow_mut().push(SensitivityRow {
                            stage,
                            layer,
                            bits: *probe == Probe::Bits,
                            at: *at,
                            lost: *lost,
                        });
                    }
                    Event::Range { value, low, high } => seen.borrow_mut().push((value.clone(), *low, *high)),
                    Event::Note { text } => notes.borrow_mut().push(format!("{stage_name}: {text}")),
                    _ => {}
                }
                events(event);
            };
            let seed = self.config.seed.wrapping_mul(1_000_003).wrapping_add(index as u64);
            tch::manual_seed(seed as i64);
            let teacher = |wanted: &TeacherRef| self.teacher(wanted, index, float, store);
            let memory = StageMemory { store, key: &self.keys[index - 1], seed };
            let context =
                Context { data: &self.data, target: &self.target, seed, events: &listen, teacher: &teacher, memory: &memory };
            let done = self.config.stages[index - 1].stage().run(model, &context);
            done.map_err(|source| RunError::Stage { stage: stage_name.clone(), source })?
        };
        model.check().map_err(|source| RunError::Invariant { stage: stage_name.clone(), source })?;
        let seconds = started.elapsed().as_secs_f64();
        let mut measured = measure(self, &model, index, float)?;
        measured.row.seconds = seconds;
        measured.curves = curves.into_inner();
        measured.notes = notes.into_inner();
        measured.sensitivity = sensitivity.into_inner();
        measured.seen = seen.into_inner();
        store.save(key, &model, &measured)?;
        store.link(key, &stage_name)?;
        if index > 0 {
            let (size, value, metric) =
                (measured.row.packed_bytes, measured.quality.value, measured.quality.metric.name().to_string());
            events(Event::StageFinished { stage: stage_name, index, size, metric, value, seconds });
        }
        Ok((model, measured))
    }

    fn teacher(&self, wanted: &TeacherRef, index: usize, float: Option<&Model>, store: &Store) -> Result<Model, StageError> {
        let stored = |at: usize| match store.read(&self.keys[at]) {
            Some(model) => Ok(model),
            None => Err(StageError::config("teacher", format!("the checkpoint of {} is gone", self.stage_name(at)))),
        };
        match wanted {
            TeacherRef::Float => match float {
                Some(float) => Ok(float.copy()),
                // While the float model itself is trained, what stands so far teaches.
                None => stored(index - 1),
            },
            TeacherRef::Stage(name) => match self.teacher_stage(name, index) {
                Some(at) => stored(at),
                None => Err(StageError::config("teacher", format!("`stage:{name}` names no earlier stage"))),
            },
            TeacherRef::Onnx(path) => sinter_onnx::load(&self.folder.join(path), &sinter_onnx::Options::default())
                .map_err(|e| StageError::config("teacher", format!("{}: {e}", path.display()))),
        }
    }
}
