//! A worker: takes one trial after the other from the store, until there is nothing to do.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use sinter_model::{machine, writer};
use sinter_pipeline::{ConfigError, Interrupt, RunError, RunOptions};
use sinter_train::Event;

use crate::chooser::Chooser;
use crate::config::{Figure, LOST};
use crate::executors::ExecutorError;
use crate::stopping::Reached;
use crate::store::{Store, StoreError};
use crate::sweep::Sweep;
use crate::trial::{State, Trial};

/// How often a worker says that it is alive, and how long it may be silent before its trial is given to another.
const BEAT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(120);
/// Between two looks at a store whose last trials are with others.
const WAIT: Duration = Duration::from_millis(500);

/// Why a sweep did not go on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sweep or its pipeline.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The pipeline is not the one that the sweep was begun with.
    #[error(
        "{pipeline} is not what this sweep was begun with: its pipeline, model or data changed, and what was found so far holds for the old one. Give the sweep \
         another `name`, or remove {store}"
    )]
    Changed {
        /// The pipeline file.
        pipeline: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// Somebody on another machine is at it.
    #[error(
        "a worker on {other} is at this sweep: {store} can be shared by processes of one machine alone. If it is gone, the trial is free two minutes after its last sign of life"
    )]
    Elsewhere {
        /// The store.
        store: PathBuf,
        /// The other machine.
        other: String,
    },
    /// A worker's process could not be started or watched.
    #[error("{program}: {source}")]
    Process {
        /// What was started.
        program: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Workers could not be started.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// A finalist did not come to its end.
    #[error("finalist {recipe}, seed {seed}: {source}")]
    Finalist {
        /// Its trial.
        recipe: i64,
        /// Of the run.
        seed: u64,
        /// What went wrong.
        source: Box<RunError>,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] sinter_model::WriteError),
    /// A table could not be made.
    #[error("{0}")]
    Table(String),
    /// The user asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Something that happened in a sweep.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Said {
    /// A trial began.
    Begun {
        /// The trial.
        trial: Trial,
    },
    /// A trial ended, in whatever way.
    Ended {
        /// The trial.
        trial: Trial,
        /// Stages that the cache held, of how many, where that is known.
        cached: Option<(usize, usize)>,
    },
    /// Something that stops nothing.
    Note {
        /// What.
        text: String,
    },
}

/// Where what happens goes.
pub type Tell<'a> = &'a dyn Fn(Said);

/// How to work.
#[derive(Debug, Clone)]
pub struct Working {
    /// Whether the user wants to stop.
    pub interrupt: Interrupt,
    /// How often a stage that trains keeps how far it is.
    pub checkpoint_every: Duration,
}

/// Works until no trial is left.
pub fn work(sweep: &Sweep, how: &Working, tell: Tell) -> Result<(), SweepError> {
    let mut store = Store::open(&sweep.store_path())?;
    begin(sweep, &store)?;
    let config = &sweep.search.config;
    let mut chooser = Chooser::new(&sweep.search.space, &config.sampler, config.seed, config.trials.get());
    loop {
        if how.interrupt.heed() {
            return Err(SweepError::Stopped);
        }
        match store.take(&writer(), SILENCE, &|trial| sweep.search.holds(trial), &mut |trials| {
            chooser.choose(trials, &|t| sweep.search.outcome(t))
        })? {
            Some(trial) => one(sweep, how, &store, trial, tell)?,
            // One that is with another may come back.
            None if store.count(State::Running)? > 0 => std::thread::sleep(WAIT),
            None => {
                let inside = store.known()?.values().filter(|t| sweep.search.holds(t)).count();
                if inside < sweep.search.config.trials.get() {
                    tell(Said::Note {
                        text: format!("no other recipe is left to try: {inside} of {}", sweep.search.config.trials),
                    });
                }
                return Ok(());
            }
        }
    }
}

/// Writes down what a new sweep stands upon; an old one must stand upon the same.
pub(crate) fn begin(sweep: &Sweep, store: &Store) -> Result<(), SweepError> {
    match store.meta("pipeline")? {
        Some(known) if known != sweep.base => {
            return Err(SweepError::Changed { pipeline: sweep.pipeline.clone(), store: sweep.store_path() });
        }
        Some(_) => {}
        None => store.set_meta("pipeline", &sweep.base)?,
    }
    // SQLite's log lies in the memory of one machine, whatever file system it is on.
    let here = machine();
    if let Some(other) = store.machines()?.into_iter().find(|other| *other != here) {
        return Err(SweepError::Elsewhere { store: sweep.store_path(), other });
    }
    Ok(sweep.search.keep(store)?)
}

/// Does one trial. What stops it alone is told in the store; only what stops the sweep is an error.
fn one(sweep: &Sweep, how: &Working, store: &Store, trial: Trial, tell: Tell) -> Result<(), SweepError> {
    tell(Said::Begun { trial: trial.clone() });
    let alive = Alive::of(sweep.store_path(), trial.id);
    let tried = tried(sweep, how, store, &trial);
    drop(alive);
    let (state, figures, seconds, text, cached) = match tried {
        Tried::Done { figures, seconds, cached } => (State::Done, figures, seconds, String::new(), cached),
        Tried::Early { text } => (State::Stopped, BTreeMap::new(), 0.0, text, (0, 0)),
        Tried::Failed { text } => (State::Failed, BTreeMap::new(), 0.0, text, (0, 0)),
        Tried::Interrupted => {
            store.put_back(trial.id, &writer())?;
            return Err(SweepError::Stopped);
        }
    };
    store.end((trial.id, &writer()), state, (&figures, seconds), &text)?;
    store.trial(trial.id)?.into_iter().for_each(|trial| tell(Said::Ended { trial, cached: Some(cached) }));
    Ok(())
}

/// How a trial ended.
enum Tried {
    Done { figures: BTreeMap<String, f64>, seconds: f64, cached: (usize, usize) },
    Early { text: String },
    Failed { text: String },
    Interrupted,
}

fn tried(sweep: &Sweep, how: &Working, store: &Store, trial: &Trial) -> Tried {
    let plan = match sweep.plan(&trial.recipe, trial.seed) {
        Ok(plan) => plan,
        Err(error) => return Tried::Failed { text: error.to_string() },
    };
    // A trial that is stopped early ends as a run that a user stops.
    let stop = how.interrupt.below();
    // Early stopping compares with trials of the space as it is now.
    let outside = outside(sweep, store);
    let (epoch, early) = (Cell::new(0u64), RefCell::new(None));
    let listen = |event: Event| {
        let Event::Epoch { value: Some(value), .. } = event else { return };
        epoch.set(epoch.get() + 1);
        let score = sweep.search.metric.score(value);
        if let Some(text) = stopped_at(sweep, (store, &outside), trial, epoch.get(), score) {
            *early.borrow_mut() = Some(text);
            stop.ask();
        }
    };
    let options = RunOptions {
        out: sweep.out.clone(),
        fresh: false,
        measure: false,
        checkpoint_every: how.checkpoint_every,
        interrupt: stop.clone(),
    };
    let done = plan.trial(&options, &listen);
    let ended = matches!(&done, Ok(_) | Err(RunError::Stopped { .. }));
    let early = early.into_inner();
    if !ended || early.is_some() {
        plan.forget_work(&sweep.out);
    }
    match (done, early) {
        (Ok(found), _) if !found.quality.value.is_finite() => {
            Tried::Failed { text: format!("its {} is {}", sweep.search.metric.name, found.quality.value) }
        }
        // Where the last epoch brought both, the trial is done all the same.
        (Ok(found), _) => {
            let row = &found.row;
            let figures = [
                (Figure::Quality, Some(found.quality.value)),
                (Figure::Packed, Some(row.packed_bytes as f64)),
                (Figure::Flash, Some(row.flash as f64)),
                (Figure::Ram, Some(row.ram as f64)),
                (Figure::Macs, Some(row.macs as f64)),
                (Figure::Nonzero, Some(row.nonzero as f64)),
                (Figure::Energy, row.energy_middle.or(Some(row.energy_floor))),
                (Figure::Latency, row.latency_middle),
            ];
            let figures = figures.into_iter().filter_map(|(figure, value)| Some((figure.name().to_string(), value?)));
            let lost = (LOST.to_string(), found.float.degradation(&found.quality).share);
            let figures = figures.chain([lost]).collect();
            Tried::Done { figures, seconds: found.seconds, cached: (found.cached, row.index) }
        }
        (Err(RunError::Stopped { .. }), Some(text)) => Tried::Early { text },
        (Err(RunError::Stopped { .. }), None) => Tried::Interrupted,
        (Err(error), _) => Tried::Failed { text: error.to_string() },
    }
}

/// The trials outside of the space, where somebody asks: where trials are stopped early.
fn outside(sweep: &Sweep, store: &Store) -> BTreeSet<i64> {
    let trials = if sweep.search.config.stop.is_some() { store.trials().unwrap_or_default() } else { vec![] };
    trials.iter().filter(|t| !sweep.search.holds(t)).map(|t| t.id).collect()
}

/// Writes down how far a trial is; says why it stops there, if it does. What was decided at an epoch the first time holds when the trial is taken up.
fn stopped_at(
    sweep: &Sweep,
    (store, outside): (&Store, &BTreeSet<i64>),
    trial: &Trial,
    epoch: u64,
    score: f64,
) -> Option<String> {
    let rule = sweep.search.config.stop.as_ref();
    if !score.is_finite() {
        return rule.map(|_| format!("stopped after epoch {epoch}: its {} is {score}", sweep.search.metric.name));
    }
    let compared = rule.is_some();
    // A store that is busy for a moment is no reason to lose a trial: it is asked again at the next epoch.
    let put = store.step(trial.id, epoch, score);
    let put = put.and_then(|new| if new && compared { store.at_step(epoch).map(Some) } else { Ok(None) });
    let all = put.map_err(|error| tracing::warn!("epoch {epoch} of trial {} was not written down: {error}", trial.id)).ok()??;
    let all: Vec<Reached> = all.into_iter().filter(|(id, _)| !outside.contains(id)).collect();
    let better = all.iter().filter(|(_, other)| *other > score).count();
    rule?
        .kind()
        .stops(epoch, (trial.id, score), &all)
        .then(|| format!("stopped after epoch {epoch}: {better} of {} were better there", all.len()))
}

/// Says again and again that a trial's worker is alive, until it is dropped.
struct Alive {
    end: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Alive {
    fn of(store: PathBuf, trial: i64) -> Self {
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut open = None;
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                // Whatever goes wrong here, the trial goes on, and the next beat may be heard.
                if open.is_none() {
                    open = Store::open(&store).ok();
                }
                let beaten = open.as_ref().map(|store| store.beat(trial, &writer()));
                if let Some(Err(error)) = beaten {
                    tracing::warn!("trial {trial} could not say that it goes on: {error}");
                    open = None;
                }
            }
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
