//! The run: job after job, from the last result of the cache on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sinter_model::{Model, ModelError, WriteError, write_whole};
use sinter_report::{CurveRow, ReportError, RunRecord, SensitivityRow, write_report};
use sinter_train::{Context, Event, Events, Probe, StageError, TeacherRef};

use crate::artefacts::{self, Unwritten};
use crate::interrupt::Interrupt;
use crate::journal::{Journal, State};
use crate::judge;
use crate::measure::{MeasureError, Measured, Said, estimated, measure};
use crate::record;
use crate::resolve::Plan;
use crate::schedule::{Job, Teacher, jobs, teacher};
use crate::snapshot::{Snapshot, SnapshotError};
use crate::store::{StageMemory, StageWork, Store, StoreError};

/// Why a run did not end: where it was, and what stopped it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A stage failed.
    #[error("stage {stage}: {source}")]
    Stage {
        /// `2-prune`.
        stage: String,
        /// What went wrong; names the layer.
        source: StageError,
    },
    /// The user asked to stop.
    #[error("stopped in stage {stage}, at {at}")]
    Stopped {
        /// `2-prune`.
        stage: String,
        /// How far it is.
        at: String,
    },
    /// A stage did what no stage may.
    #[error("stage {stage} broke what an earlier stage had set: {source}")]
    Invariant {
        /// `2-prune`.
        stage: String,
        /// Names the weight.
        source: ModelError,
    },
    /// What a stage left could not be measured.
    #[error("measuring what stage {stage} left: {source}")]
    Measure {
        /// `2-prune`.
        stage: String,
        /// What went wrong.
        source: MeasureError,
    },
    /// A file could not be made or measured.
    #[error(transparent)]
    Artefact(#[from] Unwritten),
    /// The result could not be described.
    #[error("describing the result: {0}")]
    Record(#[from] SnapshotError),
    /// The cache did not take or give something.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The report could not be written.
    #[error("report: {0}")]
    Report(#[from] ReportError),
    /// The record could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
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
    /// How often a stage that trains keeps how far it is.
    pub checkpoint_every: Duration,
    /// Whether the user wants to stop.
    pub interrupt: Interrupt,
}

/// What a run left.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// The run's folder.
    pub folder: PathBuf,
    /// The page.
    pub report: PathBuf,
    /// All that there is to tell.
    pub record: RunRecord,
}

/// A model at hand, or one that the cache holds and nobody asked for yet.
enum Current {
    AtHand(Model),
    Stored(String),
}

impl Current {
    fn take(self, store: &Store) -> Result<Model, StoreError> {
        match self {
            Self::AtHand(model) => Ok(model),
            Self::Stored(key) => store.model(&key).ok_or(StoreError::Gone(key)),
        }
    }
}

/// All that the jobs of one run share.
pub(crate) struct Run<'a> {
    plan: &'a Plan,
    pub store: Store,
    /// Where the run's files go; a trial leaves none, and tells the epochs of cached stages too.
    folder: Option<PathBuf>,
    options: &'a RunOptions,
    events: Events<'a>,
}

impl Plan {
    /// Does the stages that the cache does not hold, leaves the artefacts, and writes the report.
    pub fn run(&self, options: &RunOptions, events: Events) -> Result<RunOutcome, RunError> {
        let folder = self.run_folder(&options.out);
        let stages: Vec<String> = self.stages.iter().map(|s| s.name.clone()).collect();
        events(Event::RunStarted { pipeline: self.config.name.clone(), folder: folder.clone(), stages: stages.clone() });
        let journal = Journal::open(&folder, &self.config.name, stages, events);
        let ended = self.follow(options, folder, &|event| journal.hear(event));
        let state = match &ended {
            Ok(_) => State::Done,
            Err(RunError::Stopped { .. }) => State::Interrupted,
            Err(_) => State::Failed,
        };
        journal.close(state, ended.as_ref().err().map(ToString::to_string));
        ended
    }

    fn follow(&self, options: &RunOptions, folder: PathBuf, events: Events) -> Result<RunOutcome, RunError> {
        let run = Run { plan: self, store: Store::of_runs(&options.out), folder: Some(folder.clone()), options, events };
        // What a killed run left half written.
        run.store.sweep();
        sinter_model::sweep(&folder);
        let old = run.store.discard_old();
        if old > 0 {
            events(Event::Note {
                text: format!("{old} files of an older Sinter were removed from the cache: they had no checksums"),
            });
        }
        self.notes.iter().for_each(|text| events(Event::Note { text: text.clone() }));
        let (float, result, measured) = run.stages()?;
        if options.interrupt.wanted() {
            let stage = self.stage_name(self.stages.len());
            return Err(RunError::Stopped { stage, at: "its end".into() });
        }
        run.finish(&folder, (&float, &result), &measured)
    }
}

impl<'a> Run<'a> {
    /// The stages alone.
    pub fn trial(plan: &'a Plan, options: &'a RunOptions, events: Events<'a>) -> Self {
        Self { plan, store: Store::of_runs(&options.out), folder: None, options, events }
    }

    /// Does all jobs. Gives the float model, the result, and what was measured after each.
    pub fn stages(&self) -> Result<(Model, Model, Vec<Measured>), RunError> {
        let mut current = Current::AtHand(self.plan.model.copy());
        let mut float: Option<Model> = None;
        let mut all = Vec::new();
        for job in jobs(self.plan) {
            if self.options.interrupt.wanted() {
                return Err(RunError::Stopped { stage: job.name.clone(), at: "its beginning".into() });
            }
            let wait = || (self.events)(Event::Note { text: format!("another run is at {}; waiting for its result", job.name) });
            let lock = self.store.lock(&job.key.name, wait)?;
            let cached = if self.options.fresh { None } else { self.store.measured(&job.key.name) };
            let (next, measured) = match cached {
                Some(measured) => (Current::Stored(job.key.name.clone()), self.cached(&job, measured)),
                None => {
                    let model = current.take(&self.store)?;
                    let (model, measured) = self.step(&job, model, float.as_ref())?;
                    (Current::AtHand(model), measured)
                }
            };
            if let Some(folder) = &self.folder {
                self.store.link(&job.key.name, &folder.join(format!("checkpoints/{}.safetensors", job.name)))?;
            }
            drop(lock);
            current = next;
            if job.leaves_float {
                let model = current.take(&self.store)?;
                float = Some(model.copy());
                current = Current::AtHand(model);
            }
            all.push(measured);
        }
        let result = current.take(&self.store)?;
        let float = float.unwrap_or_else(|| self.plan.model.copy());
        Ok((float, result, all))
    }

    fn cached(&self, job: &Job, measured: Measured) -> Measured {
        if job.index > 0 {
            (self.events)(Event::StageCached { stage: job.name.clone(), index: job.index, stages: job.of });
        }
        if self.folder.is_none() {
            let curve = &measured.said.curves;
            let metric = || measured.quality.metric.name.to_string();
            curve.iter().for_each(|&CurveRow { epoch, loss, value, seconds, .. }| {
                (self.events)(Event::Epoch { epoch, epochs: curve.len(), loss, metric: metric(), value, seconds });
            });
        }
        // Estimates depend on the target, which is no part of the key; so does what the stage is called in words.
        let mut row = estimated(measured.row, &measured.footprint, &self.plan.target);
        row.cached = true;
        row.what = self.plan.what(job.index);
        Measured { row, ..measured }
    }

    /// One job: done, checked, measured and stored.
    fn step(&self, job: &Job, model: Model, float: Option<&Model>) -> Result<(Model, Measured), RunError> {
        let (model, said, seconds) = if job.index == 0 { (model, Said::default(), 0.0) } else { self.stage(job, model, float)? };
        let stage = || job.name.clone();
        model.check().map_err(|source| RunError::Invariant { stage: stage(), source })?;
        let measured = measure(self.plan, &Snapshot::new(&model), job.index, float, said, self.events);
        let mut measured = measured.map_err(|source| RunError::Measure { stage: stage(), source })?;
        measured.row.seconds = seconds;
        if job.leaves_float
            && let Some(text) = measured.quality.doubt()
        {
            let event = Event::Note { text };
            note(&mut measured.said, &job.name, &event);
            (self.events)(event);
        }
        self.store.save(job.key, &job.name, &model, &measured)?;
        self.store.forget_work(job.key);
        if job.index > 0 {
            let (size, value) = (measured.row.packed_bytes, measured.quality.value);
            let (index, metric) = (job.index, measured.quality.metric.name.to_string());
            (self.events)(Event::StageFinished { stage: stage(), index, size, metric, value, seconds });
        }
        Ok((model, measured))
    }

    /// The stage's model, what it said, and the seconds that it took.
    fn stage(&self, job: &Job, model: Model, float: Option<&Model>) -> Result<(Model, Said, f64), RunError> {
        let (plan, stage, options) = (self.plan, job.name.as_str(), self.options);
        (self.events)(Event::StageStarted { stage: stage.to_string(), index: job.index, stages: job.of });
        let times = (options.fresh, options.checkpoint_every);
        let work = StageWork::new(&self.store, (job.key, stage), times, &options.interrupt, self.events);
        let listen = |event: Event| work.hear(event);
        sinter_model::start_from(job.seed);
        let find = |wanted: &TeacherRef| self.teacher(job, wanted, float);
        let memory = StageMemory { store: &self.store, key: &job.input.name, seed: job.seed, fresh: options.fresh };
        let context = Context {
            data: &plan.data,
            metric: plan.config.metric.as_ref(),
            target: &plan.target,
            seed: job.seed,
            events: &listen,
            teacher: &find,
            memory: &memory,
            checkpoints: &work,
        };
        let stage = || job.name.clone();
        let model = plan.stages[job.index - 1].step.run(model, &context).map_err(|source| match source {
            StageError::Stopped { at } => RunError::Stopped { stage: stage(), at },
            source => RunError::Stage { stage: stage(), source },
        })?;
        let (told, seconds) = work.end();
        let mut said = Said::default();
        told.iter().for_each(|event| note(&mut said, &job.name, event));
        Ok((model, said, seconds))
    }

    fn teacher(&self, job: &Job, wanted: &TeacherRef, float: Option<&Model>) -> Result<Model, StageError> {
        let stored = |at: usize| {
            let gone = || StageError::config("teacher", format!("the checkpoint of {} is gone", self.plan.stage_name(at)));
            self.store.model(&self.plan.keys[at].name).ok_or_else(gone)
        };
        match teacher(self.plan, job, wanted) {
            Some(Teacher::Float) => {
                float.map(Model::copy).ok_or_else(|| StageError::config("teacher", "there is no float model yet"))
            }
            Some(Teacher::Job(at)) => stored(at),
            Some(Teacher::File(model)) => Ok(model.copy()),
            None => Err(StageError::config("teacher", format!("`{wanted}` names no earlier stage"))),
        }
    }

    /// The last model whose values no stage had quantized, and the stage that then did.
    fn before_integers(&self) -> Option<(String, Model)> {
        let stages = self.plan.stages.len();
        let models =
            (0..stages).rev().map_while(|at| Some((self.plan.stage_name(at + 1), self.store.model(&self.plan.keys[at].name)?)));
        models.into_iter().find(|(_, model)| model.activations.is_empty())
    }

    /// Artefacts, verdicts and the report. `report.html` comes before `run.json`: where that is, all is.
    fn finish(&self, folder: &Path, models: (&Model, &Model), measured: &[Measured]) -> Result<RunOutcome, RunError> {
        let plan = self.plan;
        let (float, result) = (Snapshot::new(models.0), Snapshot::new(models.1));
        let before = || self.before_integers();
        let artefacts = artefacts::write(plan, (&float, &result), &before, measured, folder, self.options.measure, self.events)?;
        let mut record = record::of_run(plan, measured, (&float, &result), folder)?;
        record.artifacts = artefacts.files;
        record.measured = artefacts.measured;
        if !artefacts.quality.is_empty() {
            record.quality = artefacts.quality;
        }
        record.npu = artefacts.npu;
        record.certificate = artefacts.certificate;
        record.budget = judge::verdicts(plan, &result, &record)?;
        for row in &record.budget {
            (self.events)(Event::Verdict { text: judge::line(row), met: row.met });
        }
        // What the stages took when they were done, not what reading them from the cache took.
        record.seconds = record.stages.iter().map(|s| s.seconds).sum();
        record.summary = record::summary(&record) + &judge::fit(&plan.target, &result, &record);
        artefacts.samples.write(folder)?;
        write_report(&record, folder)?;
        let json = serde_json::to_vec_pretty(&record).map_err(|e| unwritten(folder, e))?;
        write_whole(&folder.join("run.json"), &json)?;
        let report = folder.join("report.html");
        let (summary, seconds) = (record.summary.clone(), record.seconds);
        (self.events)(Event::RunFinished { folder: folder.to_path_buf(), report: report.clone(), summary, seconds });
        Ok(RunOutcome { folder: folder.to_path_buf(), report, record })
    }
}

fn unwritten(folder: &Path, error: serde_json::Error) -> WriteError {
    WriteError { path: folder.join("run.json"), source: error.into() }
}

/// Keeps what a stage said, for tables and charts.
fn note(said: &mut Said, stage: &str, event: &Event) {
    let stage = stage.to_string();
    match event {
        Event::Epoch { epoch, loss, value, seconds, .. } => {
            said.curves.push(CurveRow { stage, epoch: *epoch, loss: *loss, value: *value, seconds: *seconds });
        }
        Event::Sensitivity { layer, probe, at, lost } => {
            let (layer, bits) = (layer.clone(), *probe == Probe::Bits);
            said.sensitivity.push(SensitivityRow { stage, layer, bits, at: *at, lost: *lost });
        }
        Event::Range { value, low, high } => said.seen.push((value.clone(), *low, *high)),
        Event::Note { text } => said.notes.push(format!("{stage}: {text}")),
        _ => {}
    }
}
