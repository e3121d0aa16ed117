//! Where workers run, one file a place. Every worker is a process of this program that takes trials from the store until there are none; a place only
//! starts them, and says which have ended.
//!
//! To add one: a file with a documented struct of its options that implements [`Execute`], and one line in the list below.

mod local;
mod slurm;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// What a worker is: the program, and what tells it to be one; its name is added.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its words, all paths absolute.
    pub words: Vec<String>,
    /// Where logs and notes of workers lie; it is there.
    pub folder: PathBuf,
    /// How many workers there are to be, all together.
    pub count: usize,
    /// The sweep's name.
    pub sweep: String,
}

impl Command {
    /// Where a worker's output goes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// The last lines of a worker's log, each on a line of its own.
    pub fn tail(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().map(|line| format!("\n  {line}")).collect()
    }
}

/// A place where workers run.
pub trait Execute: Debug + Send + Sync {
    /// Gets ready; workers of an earlier driver that are still at it are taken over.
    fn crew(&self, command: Command) -> Result<Box<dyn Crew>, ExecutorError>;

    /// Whether whoever starts workers should compute nothing itself: the machine before a cluster is everybody's.
    fn is_elsewhere(&self) -> bool {
        false
    }
}

/// The workers of one place.
pub trait Crew {
    /// The names of those that are there already.
    fn present(&self) -> Vec<String>;

    /// Starts workers of these names.
    fn start(&mut self, names: &[String]) -> Result<(), ExecutorError>;

    /// Those that ended since this was asked last.
    fn ended(&mut self) -> Result<Vec<Ended>, ExecutorError>;

    /// Asks all to end well: after the step that they are at.
    fn stop(&mut self);
}

/// A worker that ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// Whether it found nothing more to do.
    pub well: bool,
    /// Whether somebody else ended it: its time was over, or others needed the room.
    pub taken_away: bool,
    /// As the store knows it, where the place can tell.
    pub writer: Option<String>,
    /// How it ended.
    pub how: String,
}

/// Why a place starts no workers.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// What the place is asked with is not on this machine.
    #[error("`executor: {executor}` wants `{program}` on this machine: {source}")]
    Absent {
        /// The place.
        executor: &'static str,
        /// The program.
        program: &'static str,
        /// Why it could not be started.
        source: std::io::Error,
    },
    /// The place refused.
    #[error("{program}: {said}")]
    Refused {
        /// Who did.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// A file or process.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

impl ExecutorError {
    fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
}

sinter_model::choices! {
    /// Where workers run.
    pub enum Executor: dyn Execute {
        "local" => Local(local::Local),
        "slurm" => Slurm(slurm::Slurm),
    }
    default Local
}
