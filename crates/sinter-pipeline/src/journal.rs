//! Where a run stands, written into its folder while it goes on: `progress.json`, and a lock that says that the run is alive.

use std::cell::{Cell, RefCell};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sinter_model::write_whole;
use sinter_train::{Event, Events};

use crate::record::now;

const PROGRESS: &str = "progress.json";
const LOCK: &str = ".lock";
/// Between two writings, unless a stage begins or ends.
const EVERY: Duration = Duration::from_secs(2);

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A process is at it.
    Running,
    /// The user stopped it, or its process is gone. The same command goes on.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// All is there.
    Done,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The pipeline's name.
    pub pipeline: String,
    /// How the run stands.
    pub state: State,
    /// When it was begun, as RFC 3339.
    pub started: String,
    /// Names of its stages.
    pub stages: Vec<String>,
    /// The stage under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// What is being done there, how much of it is, and of how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<(String, usize, usize)>,
    /// How far the stage can be taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Of the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// What stopped it; where it is done, what came of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Progress {
    /// Of a run of which nothing more is known.
    pub(crate) fn new(pipeline: String, state: State, started: String, stages: Vec<String>) -> Self {
        Self { pipeline, state, started, stages, stage: None, work: None, kept: None, loss: None, text: String::new() }
    }

    /// Reads what a run's folder says; `None` where it says nothing that can be read.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        let mut progress: Self = serde_json::from_slice(&std::fs::read(folder.join(PROGRESS)).ok()?).ok()?;
        // Who holds the lock is at it; a run that says so without it is gone.
        progress.state = match (is_alive(folder), progress.state) {
            (true, _) => State::Running,
            (false, State::Running) => State::Interrupted,
            (false, state) => state,
        };
        Some(progress)
    }
}

/// Seconds since a run told where it stands.
pub(crate) fn silent(folder: &Path) -> Option<u64> {
    let told = std::fs::metadata(folder.join(PROGRESS)).and_then(|m| m.modified()).ok()?;
    Some(told.elapsed().unwrap_or_default().as_secs())
}

fn is_alive(folder: &Path) -> bool {
    let Ok(file) = File::options().write(true).open(folder.join(LOCK)) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Passes events on, and writes down where the run stands.
pub(crate) struct Journal<'a> {
    folder: PathBuf,
    events: Events<'a>,
    progress: RefCell<Progress>,
    written: Cell<Instant>,
    /// Held while the run lives; several runs of one folder share it.
    _alive: Option<File>,
}

impl<'a> Journal<'a> {
    /// Of a run that begins. What can't be written is told once, and stops nothing.
    pub fn open(folder: &Path, pipeline: &str, stages: Vec<String>, events: Events<'a>) -> Self {
        let alive = std::fs::create_dir_all(folder).and_then(|()| {
            let file = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
            file.lock_shared()?;
            Ok(file)
        });
        if let Err(error) = &alive {
            tracing::warn!("`sinter status` will not see this run: {}: {error}", folder.join(LOCK).display());
        }
        let progress = Progress::new(pipeline.to_string(), State::Running, now(), stages);
        let journal = Self {
            folder: folder.to_path_buf(),
            events,
            progress: RefCell::new(progress),
            written: Cell::new(Instant::now()),
            _alive: alive.ok(),
        };
        journal.write();
        journal
    }

    /// Takes one event, and passes it on.
    pub fn hear(&self, event: Event) {
        let due = self.progress.borrow_mut().take(&event);
        if due || self.written.get().elapsed() > EVERY {
            self.write();
        }
        (self.events)(event);
    }

    /// The run has ended, for a reason where it did not come to its end.
    pub fn close(&self, state: State, text: Option<String>) {
        let mut progress = self.progress.borrow().clone();
        progress.state = state;
        if state == State::Done {
            (progress.stage, progress.work, progress.kept) = (None, None, None);
        }
        progress.text = text.unwrap_or(progress.text);
        *self.progress.borrow_mut() = progress;
        self.write();
    }

    fn write(&self) {
        self.written.set(Instant::now());
        let text = serde_json::to_vec_pretty(&*self.progress.borrow()).unwrap_or_default();
        if let Err(error) = write_whole(&self.folder.join(PROGRESS), &text) {
            tracing::debug!("{error}");
        }
    }
}

impl Progress {
    /// Takes an event; says whether it is worth writing at once.
    fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::StageStarted { stage, .. } | Event::StageCached { stage, .. } => {
                (self.stage, self.work, self.kept, self.loss) = (Some(stage.clone()), None, None, None);
                true
            }
            Event::StageFinished { .. } => {
                (self.stage, self.work, self.kept, self.loss) = (None, None, None, None);
                true
            }
            Event::StageResumed { at } | Event::StageKept { at } => {
                self.kept = Some(at.clone());
                false
            }
            Event::Progress { what, done, total } => {
                self.work = Some((what.clone(), *done, *total));
                false
            }
            Event::Epoch { loss, .. } => {
                self.loss = Some(*loss);
                false
            }
            Event::RunFinished { summary, .. } => {
                self.text = summary.clone();
                false
            }
            _ => false,
        }
    }
}
