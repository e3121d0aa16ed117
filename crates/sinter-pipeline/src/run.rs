//! The run: stage after stage, from the last checkpoint on.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sinter_data::DataError;
use sinter_exec::ExecError;
use sinter_export::{PackError, QdqError, RuntimeError, device::LowerError};
use sinter_model::{Model, ModelError, OpError, WriteError, write_whole};
use sinter_onnx::OnnxError;
use sinter_report::{CurveRow, ReportError, RunRecord, SensitivityRow, write_report};
use sinter_train::{Context, Event, Events, Memory, Probe, StageError, TeacherRef};

use crate::artifacts;
use crate::budget;
use crate::checkpoint::{CheckpointError, read_checkpoint, write_checkpoint};
use crate::key::Key;
use crate::measure::{Measured, estimated, measure};
use crate::plan::Plan;

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
        let (artifacts, measured) = artifacts::leave(self, &model, last, &float, &told[float_index], &folder, events)?;
        let mut record = self.record(&told, &folder);
        record.artifacts = artifacts;
        record.measured = measured;
        record.budget = budget::verdicts(self, &model, &record)?;
        for row in &record.budget {
            events(Event::Verdict { text: budget::line(row), met: row.met });
        }
        // What the stages took when they were done, not what reading them from the cache took.
        record.seconds = record.stages.iter().map(|s| s.seconds).sum();
        record.summary = summary(&record) + &budget::fit(&self.target, &record);
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
        let (curves, notes, sensitivity) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
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

    fn record(&self, told: &[Measured], folder: &Path) -> RunRecord {
        let last = &told[told.len() - 1];
        let energy = sinter_estimate::EnergyEstimate {
            floor: 0.0,
            floor_source: self.target.floor.source.clone(),
            board: None,
            latency: None,
            board_source: self.target.board.as_ref().map(|b| b.source.clone()),
        };
        RunRecord {
            version: env!("CARGO_PKG_VERSION").into(),
            pipeline: self.config.name.clone(),
            run: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            started: now(),
            seed: self.config.seed,
            machine: machine(),
            model: self.model.name.clone(),
            data: self.data.name.clone(),
            target: self.target.name.clone(),
            config: serde_yaml::to_string(&YamlConfig(&self.config)).unwrap_or_default(),
            metric: last.quality.metric.name().into(),
            higher_is_better: last.quality.metric.higher_is_better(),
            stages: told.iter().map(|m| m.row.clone()).collect(),
            layers: told.iter().flat_map(|m| m.layers.clone()).collect(),
            curves: told.iter().flat_map(|m| m.curves.clone()).collect(),
            notes: told.iter().flat_map(|m| m.notes.clone()).collect(),
            sensitivity: told.iter().flat_map(|m| m.sensitivity.clone()).collect(),
            classes: self.data.classes.clone(),
            energy_source: energy.floor_source,
            board_source: energy.board_source,
            ..RunRecord::default()
        }
    }
}

/// The configuration in the form that it is read in: `- train: {...}`.
struct YamlConfig<'a>(&'a crate::config::PipelineConfig);

impl serde::Serialize for YamlConfig<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_yaml::with::singleton_map_recursive::serialize(self.0, serializer)
    }
}

/// The answer in one line.
fn summary(record: &RunRecord) -> String {
    let (Some(float), Some(last)) = (record.float(), record.last()) else { return String::new() };
    if record.stages.len() == 1 {
        return format!("{} as it came: {}", record.model, record.value_text(last.value));
    }
    // What a real runtime scored, where there is a score.
    let real = record.measured.iter().find(|m| m.artifact.ends_with("model.onnx")).and_then(|m| m.value);
    let value = real.unwrap_or(last.value);
    let place = if real.is_some() { " in ONNX Runtime" } else { "" };
    let size = match last.index == float.index {
        true => format!("{} trained", record.model),
        false => format!("{:.1}× smaller", record.ratio()),
    };
    format!(
        "{size}, {}: {} of {} packed, {}{place}",
        record.loss_text(value),
        sinter_model::Bytes(last.packed_bytes),
        sinter_model::Bytes(float.onnx_float_bytes),
        record.value_text(value)
    )
}

/// Checkpoints by key, shared by all pipelines of a folder; each run's own folder links to those it used.
struct Store {
    cache: PathBuf,
    run: PathBuf,
    fresh: bool,
}

impl Store {
    fn model_path(&self, key: &str) -> PathBuf {
        self.cache.join(format!("{key}.safetensors"))
    }

    fn told_path(&self, key: &str) -> PathBuf {
        self.cache.join(format!("{key}.json"))
    }

    /// A stage's result, when the cache holds all of it in good order.
    fn load(&self, key: &str) -> Option<(Model, Measured)> {
        if self.fresh {
            return None;
        }
        let measured = serde_json::from_slice(&std::fs::read(self.told_path(key)).ok()?).ok()?;
        Some((self.read(key)?, measured))
    }

    fn read(&self, key: &str) -> Option<Model> {
        let path = self.model_path(key);
        if !path.exists() {
            return None;
        }
        match read_checkpoint(&path) {
            Ok(model) => Some(model),
            Err(error) => {
                tracing::warn!("a checkpoint can't be read, its stage is done again: {error}");
                None
            }
        }
    }

    /// The model first: what is told about it makes the entry whole.
    fn save(&self, key: &str, model: &Model, measured: &Measured) -> Result<(), RunError> {
        write_checkpoint(model, &self.model_path(key))?;
        write_whole(&self.told_path(key), &serde_json::to_vec(measured).unwrap_or_default())?;
        Ok(())
    }

    /// Makes the checkpoint appear in the run's folder.
    fn link(&self, key: &str, stage: &str) -> Result<(), RunError> {
        let (from, to) = (self.model_path(key), self.run.join(format!("{stage}.safetensors")));
        let fail = |source| RunError::Io { path: to.clone(), source };
        std::fs::create_dir_all(&self.run).map_err(fail)?;
        let _ = std::fs::remove_file(&to);
        if std::fs::hard_link(&from, &to).is_err() {
            // Another file system: a copy serves as well.
            let bytes = std::fs::read(&from).map_err(|source| RunError::Io { path: from.clone(), source })?;
            write_whole(&to, &bytes)?;
        }
        Ok(())
    }
}

/// What a stage remembers about the model that came into it; in the cache, beside the checkpoints.
struct StageMemory<'a> {
    store: &'a Store,
    /// Of the model.
    key: &'a str,
    seed: u64,
}

impl StageMemory<'_> {
    fn path(&self, what: &str) -> PathBuf {
        let mut key = Key::new();
        key.text("model", self.key);
        key.config("seed", &self.seed);
        key.text("what", what);
        self.store.cache.join(format!("{}.memory.json", key.name()))
    }
}

impl Memory for StageMemory<'_> {
    fn recall(&self, what: &str) -> Option<String> {
        if self.store.fresh { None } else { std::fs::read_to_string(self.path(what)).ok() }
    }

    fn keep(&self, what: &str, text: &str) {
        if let Err(error) = write_whole(&self.path(what), text.as_bytes()) {
            tracing::warn!("not remembered for later runs: {error}");
        }
    }
}

/// Now, UTC, RFC 3339 (proleptic Gregorian calendar from days since 1970; Howard Hinnant's algorithm).
fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time / 3600, time / 60 % 60, time % 60)
}

/// The processor and the number of threads that libtorch uses.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .and_then(|l| l.split_once(':'))
        .map(|(_, n)| n.trim().to_string());
    format!("{} ({} threads)", name.unwrap_or_else(|| std::env::consts::ARCH.to_string()), tch::get_num_threads())
}
